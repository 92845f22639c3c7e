// Learning curves, predictions against the truth, and bars of precision and recall.

const FRAME = { width: 520, height: 250, right: 28, top: 14, bottom: 50 };
const DIGIT = 12.2; // width, in the largest font of page.css

// Return a function from numbers to positions.
function scale(low, high, from, to) {
    const span = high - low || 1;
    return (value) => from + ((value - low) / span) * (to - from);
}

// Return about five round numbers from low to high.
function ticks(low, high) {
    const rough = (high - low || 1) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
    const first = Math.ceil(low / step - 1e-9);
    return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

// Return an empty chart with axes, and the functions that place x and y.
function axes(xs, ys, xName, label, attributes = {}) {
    const { width, height, right, top, bottom } = FRAME;
    const marked = ticks(...ys), digits = Math.max(0, -Math.floor(Math.log10(marked[1] - marked[0] || 1) + 1e-9));
    const text = (value) => (digits > 5 || Math.abs(value) >= 1e6 ? short(value) : value.toFixed(digits));
    const left = Math.max(58, 12 + DIGIT * Math.max(...marked.map((value) => text(value).length)));
    const x = scale(...xs, left, width - right), y = scale(...ys, height - bottom, top);
    const lines = marked.map((value) => element("g", {},
        element("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
        element("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, text(value))));
    const marks = ticks(...xs).filter((value) => xName !== "epoch" || Number.isInteger(value)).map((value) =>
        element("text", { x: x(value), y: height - bottom + 20, "text-anchor": "middle" }, short(value)));
    const chart = element("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": label,
        ...attributes }, lines, marks,
    element("text", { x: width - right, y: height - 7, "text-anchor": "end" }, xName));
    return { chart, x, y };
}

// --- learning curves -------------------------------------------------------------------------------------------------

function curvesSection(content) {
    const { curves } = content;
    if (!curves.panels.length) {
        return section("curves", "Learning curves", null, element("p", {}, "This network came without the history of its training."));
    }
    const numbers = element("details", { toggle: () => numbers.childElementCount > 1 || numbers.append(curvesTable(curves)) },
        element("summary", {}, "All numbers"));
    return section("curves", "Learning curves", curves.note,
        element("div", { class: "panels" }, curves.panels.map((panel) => curvePanel(panel, curves.epochs))), numbers);
}

function curvesTable({ epochs, table: measured }) {
    const names = Object.keys(measured);
    return table("All numbers of the learning curves", ["epoch", ...names.map((name) => name.replaceAll("_", " "))],
        epochs.map((epoch, i) => [whole(epoch), ...names.map((name) => short(measured[name][i]))]));
}

// Return a chart of some lines over the epochs. `lines` are {name, kind, values}; those that are quiet have no name.
function curvePanel({ title, lines }, epochs) {
    const all = lines.flatMap(({ values }) => values).filter((value) => value !== null);
    const [low, high] = [Math.min(...all), Math.max(...all)], room = 0.06 * (high - low || Math.abs(high) || 1);
    const n = epochs.at(-1), loud = lines.filter((line) => !line.quiet);
    const said = element("p", { class: "told", "aria-live": "polite" });
    const { chart, x, y } = axes([n > 1 ? 1 : 0, Math.max(n, 2)], [low - room, high + room], "epoch",
        `${title} over ${plural(n, "epoch")}. Arrow keys move through them.`, { tabindex: 0 });
    for (const { kind, values } of lines) {
        let path = "";
        values.forEach((value, i) => {
            if (value !== null) path += `${path && values[i - 1] !== null ? "L" : "M"}${x(epochs[i]).toFixed(1)} ${y(value).toFixed(1)}`;
        });
        chart.append(element("path", { d: path, class: `curve ${kind}` }));
    }
    if (n <= 30) {
        chart.append(...loud.flatMap(({ kind, values }) => values.map((value, i) => value !== null
            && element("circle", { cx: x(epochs[i]), cy: y(value), r: 2.6, class: `mark ${kind}` })).filter(Boolean)));
    }
    const cursor = element("line", { class: "cursor", y1: FRAME.top, y2: FRAME.height - FRAME.bottom, visibility: "hidden" });
    chart.append(cursor);
    let at = epochs.length - 1;
    const say = () => {
        said.textContent = `Epoch ${whole(epochs[at])}: ${loud.map(({ name, values }) => `${name} ${short(values[at])}`).join(", ")}`;
    };
    const point = (index) => {
        at = Math.min(epochs.length - 1, Math.max(0, index));
        for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(epochs[at]));
        cursor.setAttribute("visibility", "visible");
        say();
    };
    chart.addEventListener("pointermove", (event) => {
        const box = chart.getBoundingClientRect(), place = ((event.clientX - box.left) / box.width) * FRAME.width;
        point(Math.round(((place - x(epochs[0])) / (x(n) - x(epochs[0]) || 1)) * (epochs.length - 1)));
    });
    chart.addEventListener("keydown", (event) => {
        const [step] = arrow(event) ?? [0];
        if (!step) return;
        event.preventDefault();
        point(at + step);
    });
    say();
    const kinds = loud.map(({ name, kind }) =>
        element("li", {}, element("span", { class: `swatch ${kind}` }), name));
    return element("figure", {}, element("figcaption", {}, element("h3", {}, title), element("ul", { class: "legend" }, kinds)),
        chart, said);
}

// --- numbers: what was predicted against what is true ----------------------------------------------------------------

function numbersSection(content) {
    const { outputs, note } = content.numbers;
    const panels = outputs.map(({ name, true: actual, guess, r2, mae, rmse }) => {
        const all = [...actual, ...guess], low = Math.min(...all), high = Math.max(...all);
        const { chart, x, y } = axes([low, high], [low, high], "true", `Predictions of ${name} against the truth`);
        chart.append(element("path", { class: "diagonal", d: `M${x(low)} ${y(low)}L${x(high)} ${y(high)}` }),
            element("path", { class: "dots", d: actual.map((value, i) => `M${x(value).toFixed(1)} ${y(guess[i]).toFixed(1)}h0`).join("") }));
        return element("figure", {}, element("figcaption", {}, element("h3", {}, named(name)),
            element("p", { class: "told" }, `R² ${short(r2)}, mean absolute error ${short(mae)}, root mean square ${short(rmse)}`)),
        chart);
    });
    return section("numbers", "Predicted and true", note, element("div", { class: "panels" }, panels));
}

// --- classes: precision and recall -----------------------------------------------------------------------------------

function classesSection(content) {
    const labels = content.kind === "labels";
    const share = (value) => [shareBar(value), element("span", {}, value.toFixed(4))];
    const rows = content.per_class.map(({ class: i, precision, recall, f1, n_true, n_predicted }) => [
        named(content.classes[i]), share(precision), share(recall), share(f1), whole(n_true), whole(n_predicted)]);
    const some = rows.length < content.classes.length ? ` Shown: the ${whole(rows.length)} of ${whole(content.classes.length)} with the most errors.` : "";
    const heads = [labels ? "label" : "class", "precision", "recall", "F1", "rows", "predicted"];
    return section("classes", `Precision and recall of each ${labels ? "label" : "class"}`,
        `Precision: how many of the rows predicted as this are it. Recall: how many of its rows are found.${some}`,
        table("Precision and recall", heads, rows, { class: "per-class" }));
}
