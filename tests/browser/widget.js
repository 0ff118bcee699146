// A small explorer: a slider, and the square of its value with what else the model holds.
export default {
  initialize({ model }) { model.set("unit", "m"); },
  render({ model, el }) {
    const input = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 10, value: model.get("x") });
    const shown = document.createElement("output"), show = () => {
      shown.textContent = `${model.get("x") ** 2} ${model.get("unit")} ${model.get("data")?.getUint8(1) ?? ""}`;
    };
    input.oninput = () => { model.set("x", Number(input.value)); model.save_changes(); };
    model.on("change:x", show);
    el.append(input, shown);
    show();
  },
};
