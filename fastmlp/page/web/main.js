// The page, section by section.

async function main() {
    const started = performance.now();
    const content = JSON.parse(document.getElementById("content").textContent);
    const { shown, weights } = content;
    if (shown.pixels) shown.pixels = await inflate(shown.pixels);
    if (shown.values) shown.values = floats(await inflate(shown.values));
    if (weights) weights.tiles = new Int8Array((await inflate(weights.tiles)).buffer);
    const network = content.network.parameters ? await Network.read(content.network) : null;
    const numbers = content.kind === "numbers";
    const sections = [
        trySection(content, network),
        curvesSection(content),
        numbers && numbersSection(content),
        content.matrix && confusionSection(content),
        wrongSection(content),
        !numbers && classesSection(content),
        weights && weightsSection(content),
        trainedSection(content),
    ].filter(Boolean);
    document.body.append(header(content, sections), element("main", {}, sections), element("footer", {},
        "Written by fastmlp. This page loads nothing and sends nothing."));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
    repaint(); // what had no colours before it was on the page
    return { content, network, milliseconds: performance.now() - started };
}

function header(content, sections) {
    const tiles = content.scores.map(({ name, value }) => element("div", { class: "tile" },
        element("dt", {}, name), element("dd", {}, value)));
    const links = sections.map((each) => element("li", {}, element("a", { href: `#${each.id}` },
        SHORT_TITLES[each.id] ?? each.querySelector("h2").textContent)));
    return element("header", {}, element("p", { class: "eyebrow" }, "fastmlp report"), element("h1", {}, content.title),
        element("p", { class: "subtitle" }, content.subtitle), element("dl", { class: "tiles" }, tiles),
        element("nav", { "aria-label": "Sections" }, element("ul", {}, links)));
}

const SHORT_TITLES = { try: "Try it", curves: "Curves", confusion: "Confusions", wrong: "Mistakes", classes: "Classes",
    weights: "Weights", trained: "Training", numbers: "Predictions" };

function trySection(content, network) {
    if (network === null) {
        return section("try", "Ask the network", null, element("p", {}, `It does not run in this page: ${content.network.why}.`));
    }
    if (content.image) return drawingSection(content, network);
    return content.plane ? planeSection(content, network) : formSection(content, network);
}

// --- weights ---------------------------------------------------------------------------------------------------------

function weightsSection(content) {
    const { units, n_units: n, tiles, columns, member } = content.weights;
    const size = tiles.length / units.length;
    const tile = (k) => Array.from(tiles.subarray(k * size, (k + 1) * size), (w) => w / 127);
    const which = units.length < n ? `The ${units.length} units with the largest effect on the next layer, of ${whole(n)}` : `All ${plural(n, "unit")}`;
    const intro = `${which}${member}. Orange weights are positive, blue ones negative; each unit is relative to its largest.`;
    let body;
    if (content.image) {
        const { height, width } = content.image;
        body = element("ul", { class: "images weights" }, units.map((unit, k) => element("li", {},
            picture(tile(k), height, width, signedShades, `Weights of unit ${unit}`),
            element("span", { class: "truth" }, whole(unit)))));
    } else {
        const all = units.map((_, k) => tile(k));
        body = scrolling("First-layer weights", element("div", { class: "heat" }, columns.map((name, i) => element("div", {},
            element("span", { class: "name", title: name }, named(name)),
            picture(all.map((values) => values[i]), 1, units.length, signedShades, `Weights of ${name}`)))));
    }
    return section("weights", "First-layer weights", intro, body);
}

// --- what was trained ------------------------------------------------------------------------------------------------

function trainedSection(content) {
    const { layers, facts, command, command_note: note } = content.trained;
    const rows = layers.map(({ name, inputs, outputs, activation, parameters }) =>
        [name, whole(inputs), whole(outputs), activation, whole(parameters)]);
    const copied = element("span", { class: "told", "aria-live": "polite" });
    const copy = () => navigator.clipboard.writeText(command).then(
        () => copied.replaceChildren("copied"), () => copied.replaceChildren("select it to copy"));
    return section("trained", "What was trained", null,
        table("Layers", ["layer", "inputs", "outputs", "activation", "parameters"], rows, { class: "layers" }),
        element("h3", {}, "To repeat it"),
        element("pre", { tabindex: 0, role: "group", "aria-label": "Command" }, element("code", {}, command)),
        element("div", { class: "tools" }, button("Copy", copy), copied, note ? element("span", { class: "told" }, note) : null),
        element("dl", { class: "facts" }, facts.map(([name, value]) => element("div", {}, element("dt", {}, name),
            element("dd", {}, named(value))))));
}

// `await fastmlp` in the console: the network, and the content of the page.
window.fastmlp = main();
window.fastmlp.catch((error) => document.body.append(element("p", { class: "card" },
    `This browser cannot show the page, which needs one of 2023 or later (${error}).`)));
