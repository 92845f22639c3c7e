// What the network answers, beside each of the three ways to ask it: a drawing, a point, a form.

const MOST_BARS = 12, N_ACTIVE = 8;

// Return two panels, the answer of the network and its most active units. `ask(row)` fills them, `ask(null)` empties them.
function answerPanels(content, network) {
    const answer = answerPanel(content), units = unitsPanel(content, network);
    const ask = (row) => {
        const given = row && network.answer(row);
        answer.show(given);
        units.show(given);
    };
    ask(null);
    return { answer: answer.panel, units: units.panel, ask };
}

// Return buttons that show the test rows one after another, by `show(i)`, and the truth about each in `told`.
function testRows(content, thing, told, show) {
    const n = content.shown.row.length;
    let at = -1;
    const step = (by) => {
        at = at < 0 && by < 0 ? n - 1 : (at + by + n) % n;
        show(at);
        told.replaceChildren(`test row ${whole(content.shown.row[at])}, in truth `, named(truth(content, at)));
    };
    return [button("‹", () => step(-1), { "aria-label": `Previous test ${thing}` }), button(`Test ${thing} ›`, () => step(1))];
}

// Return a panel with the answer of the network.
function answerPanel(content) {
    const said = element("p", { class: "said", "aria-live": "polite" });
    const single = content.kind === "numbers" && content.outputs.length === 1; // which is said in words
    const bars = element("ol", { hidden: single, class: "bars", "aria-label": content.kind === "numbers" ? "Outputs" : "Probabilities" });
    const panel = element("div", { class: "answer" }, said, bars);
    const show = (answer) => {
        if (answer === null) {
            said.replaceChildren(content.asks);
            bars.replaceChildren(...(content.kind === "numbers" ? [] : listed(content, content.classes.map(() => 0))));
            return;
        }
        said.replaceChildren(...spoken(content, answer.outputs));
        bars.replaceChildren(...listed(content, answer.outputs));
    };
    return { panel, show };
}

// Return the answer in words.
function spoken(content, outputs) {
    if (content.kind === "numbers") {
        return outputs.length === 1 ? [element("strong", {}, short(outputs[0]))] : [plural(outputs.length, "output")];
    }
    if (content.kind === "labels") {
        const on = content.classes.filter((_, i) => outputs[i] > 0.5);
        const names = on.flatMap((name, i) => [i ? ", " : "", element("strong", {}, named(name))]);
        return on.length ? names : ["none of the labels"];
    }
    const best = largest(outputs);
    return [element("strong", {}, named(content.classes[best])), ` ${percent(outputs[best])}`];
}

// Return a bar for each output, or for the largest if there are many.
function listed(content, outputs) {
    const numbers = content.kind === "numbers", names = numbers ? content.outputs : content.classes;
    let chosen = [...names.keys()];
    if (names.length > MOST_BARS) {
        chosen = numbers ? chosen.slice(0, MOST_BARS)
            : chosen.sort((a, b) => outputs[b] - outputs[a] || a - b).slice(0, MOST_BARS);
    }
    const best = content.kind === "classes" ? largest(outputs) : -1;
    return chosen.map((i) => bar(named(names[i]), numbers ? null : outputs[i],
        numbers ? short(outputs[i]) : percent(outputs[i]), i === best && outputs[i] > 0));
}

// Return a line with a name, a bar as long as a share, and its number.
function bar(name, share, number, best) {
    return element("li", { class: best ? "best" : null }, element("span", { class: "name" }, name),
        share === null ? null : shareBar(share), element("span", { class: "number" }, number));
}

// Return a panel with the most active units of each hidden layer.
function unitsPanel(content, network) {
    const panel = element("div", { class: "units" });
    const thumbnails = new Map();
    const thumbnail = (unit) => {
        if (!thumbnails.has(unit)) thumbnails.set(unit, weightPicture(network.weightsInto(unit), content.image, unit));
        return thumbnails.get(unit);
    };
    const show = (answer) => {
        const layers = answer === null ? [] : answer.hidden;
        panel.replaceChildren(...layers.map((values, l) => {
            const active = [...values.keys()].filter((i) => values[i] !== 0)
                .sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]) || a - b).slice(0, N_ACTIVE);
            const units = active.map((i) => element("li", {}, l === 0 && content.image ? thumbnail(i) : null,
                element("span", {}, l === 0 && content.image ? `${i}` : `unit ${i}`), element("span", { class: "number" }, short(values[i]))));
            const title = layers.length > 1 ? `Most active units of hidden layer ${l + 1}` : "Most active hidden units";
            return element("div", {}, element("h3", {}, title),
                units.length ? element("ul", { class: "active" }, units) : element("p", {}, "All units are 0."));
        }));
    };
    return { panel, show };
}

// Return the picture of a unit's weights, relative to the largest of them.
function weightPicture(weights, { height, width }, unit) {
    const most = weights.reduce((top, w) => Math.max(top, Math.abs(w)), 0) || 1;
    return picture(weights.map((w) => w / most), height, width, signedShades, `Weights of hidden unit ${unit}`);
}
