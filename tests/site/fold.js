// What JupyterLab folds: results that would give away what is to be guessed, code that holds hints or only draws
for (const [hidden, text] of [['output', 'What it shows'], ['input', 'Code']])
  document.querySelectorAll(`.celltag_${hidden}-hidden .jp-Cell-${hidden}Wrapper`).forEach(part => {
    const box = document.createElement('details')
    box.innerHTML = `<summary>${text}</summary>`
    box.open = part.parentElement.id === decodeURIComponent(location.hash.slice(1))    // a link leads here
    part.before(box)
    box.append(part)
  })
