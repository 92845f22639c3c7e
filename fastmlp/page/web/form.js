// Tables: a form with one field per feature, and the network's answer to what it holds.

const FILTER_FROM = 13; // fields from which a box to search them is worth its place

function formSection(content, network) {
    const { fields, fixed } = content.form;
    const { answer, units, ask } = answerPanels(content, network);
    const inputs = fields.map((field, i) => element("input", { type: "number", step: "any", id: `field-${i}`,
        value: field.median, inputmode: "decimal", "aria-describedby": `range-${i}`, required: true }));
    const row = Float64Array.from(fixed);
    const update = () => {
        const whole = inputs.every((input) => input.value !== "" && Number.isFinite(input.valueAsNumber));
        inputs.forEach((input, i) => { row[fields[i].column] = input.valueAsNumber; });
        ask(whole ? row : null);
    };
    const put = (values) => {
        inputs.forEach((input, i) => { input.value = Number(values[fields[i].column].toPrecision(7)); }); // of float32
        row.set(values);
        update();
    };
    const told = element("span", { class: "told", "aria-live": "polite" });
    const items = fields.map((field, i) => element("div", { class: "field" },
        element("label", { for: `field-${i}` }, named(field.name)), inputs[i],
        element("span", { class: "range", id: `range-${i}` }, `${datum(field.low)} to ${datum(field.high)}`)));
    const search = element("input", { type: "search", placeholder: "Find a feature", "aria-label": "Find a feature",
        input: () => {
            const wanted = search.value.toLowerCase();
            items.forEach((item, i) => { item.hidden = !fields[i].name.toLowerCase().includes(wanted); });
        } });
    const left = content.n_features - fields.length;
    const rest = left > 0 ? ` These are the ${fields.length} features with the largest effect on the first layer; the other ${whole(left)} keep their medians, or the values of the test row.` : "";
    const form = element("form", { class: "fields", submit: (event) => event.preventDefault(), novalidate: true,
        input: () => {
            told.replaceChildren(); // it is no longer this row
            update();
        } }, items);
    update();
    return section("try", "Ask the network", `Change a value, and the answer follows. At first each field holds the median of the test data.${rest}`,
        element("div", { class: "columns form-columns" },
            element("div", {},
                element("div", { class: "tools" },
                    content.shown.values ? testRows(content, "row", told, (i) => put(valuesOf(content, i))) : [],
                    button("Medians", () => { told.replaceChildren(); put(fixed); }),
                    fields.length >= FILTER_FROM ? search : [], told),
                form),
            answer, element("div", { class: "inside" }, units)));
}
