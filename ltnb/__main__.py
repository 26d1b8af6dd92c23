"`python -m ltnb` is the command `ltnb`."
from ltnb.cli import main

main()
