# A machine for `make run` and `make lab`, on a CPU: docker build -t ltnb . && docker run -it -p 8888:8888 -v ltnb-runs:/ltnb/runs ltnb
FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends make git chromium && rm -rf /var/lib/apt/lists/*
WORKDIR /ltnb
COPY . .
# torch for a CPU is a tenth of the size of the usual one
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV TORCH_INDEX=${TORCH_INDEX}
RUN make readme
CMD ["make", "run"]
