// Runs the anywidgets of a page without a kernel: each gets a model that holds the state saved with the page.
"use strict";
{
  // get, set, on and off as ipywidgets' models have them; a change is told to whoever listens.
  class Model {
    constructor(state) {
      this.state = state;
      this.listeners = new Map();
    }
    get(name) { return this.state[name]; }
    set(name, value) {
      const changes = typeof name === "string" ? { [name]: value } : name;
      const changed = Object.keys(changes).filter((key) => this.state[key] !== changes[key]);
      Object.assign(this.state, changes);
      for (const key of changed) this.tell(`change:${key}`, this.state[key]);
      if (changed.length) this.tell("change");
    }
    save_changes() {}
    send() {}
    on(events, listener) {
      for (const event of events.split(" ")) this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
    }
    off(events, listener) {
      if (!events) return this.listeners.clear();
      for (const event of events.split(" ")) {
        const kept = listener ? (this.listeners.get(event) ?? []).filter((one) => one !== listener) : [];
        this.listeners.set(event, kept);
      }
    }
    tell(event, ...values) {
      for (const listener of this.listeners.get(event) ?? []) listener.call(this, this, ...values);
    }
  }

  // Arrays and bytes are saved beside the state, as base64 with the path where they belong.
  function restored({ state, buffers }) {
    for (const { path, data } of buffers) {
      const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
      const holder = path.slice(0, -1).reduce((part, key) => part[key], state);
      holder[path.at(-1)] = new DataView(bytes.buffer);
    }
    return state;
  }

  async function start(place) {
    const state = restored(JSON.parse(place.querySelector("script").textContent));
    const el = place.appendChild(document.createElement("div"));
    if (state._css) place.append(Object.assign(document.createElement("style"), { textContent: state._css }));
    const address = URL.createObjectURL(new Blob([state._esm], { type: "text/javascript" }));
    const module = await import(address);
    URL.revokeObjectURL(address);
    const widget = typeof module.default === "function" ? await module.default() : (module.default ?? module);
    const given = { model: new Model(state), el, experimental: { invoke: () => Promise.reject(new Error("no kernel")) } };
    await widget.initialize?.({ model: given.model, experimental: given.experimental });
    await widget.render?.(given);
    place.dataset.ready = "";
  }

  for (const place of document.querySelectorAll(".anywidget")) {
    start(place).catch((error) => {
      place.append("This explorer could not be started: ", String(error));
      console.error(error);
    });
  }
}
