// A page that was opened as a file may start no Worker: then the search runs in a frame
if (location.protocol === 'file:') window.Worker = class extends EventTarget {
  constructor(url) {
    super()
    const frame = document.createElement('iframe')
    this.ready = new Promise(done => frame.onload = () => {
      frame.onload = null
      frame.contentWindow.postMessage = data => this.dispatchEvent(new MessageEvent('message', {data}))
      const script = frame.contentDocument.createElement('script')
      script.src = url
      script.onload = () => done(frame.contentWindow)
      frame.contentDocument.body.append(script)
    })
    frame.hidden = true
    document.body.append(frame)
  }
  postMessage(data) { this.ready.then(to => to.dispatchEvent(new MessageEvent('message', {data}))) }
}
