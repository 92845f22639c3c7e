// Elements, text, numbers and colours. Text from the data only ever becomes text: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "line", "text", "g", "circle"]);
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Return a new element. Attributes that are functions become listeners; null and false leave an attribute out.
function element(tag, attributes = {}, ...children) {
    const made = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === "function") made.addEventListener(name, value);
        else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== false));
    return made;
}

// Return a name from the data, isolated so that right-to-left text leaves its surroundings in order.
function named(text) {
    return element("bdi", {}, String(text).trim() === "" ? "(no name)" : String(text));
}

function section(id, title, intro, ...children) {
    return element("section", { id, class: "card", "aria-labelledby": `${id}-title` },
        element("h2", { id: `${id}-title` }, title), intro ? element("p", { class: "intro" }, intro) : null, children);
}

function button(label, click, attributes = {}) {
    return element("button", { type: "button", click, ...attributes }, label);
}

// Return something that scrolls if it is too wide, also by keys.
function scrolling(label, content) {
    return element("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": label }, content);
}

// Return a table. `rows` are lists of cells; the first cell of each is its heading.
function table(label, heads, rows, attributes = {}) {
    return scrolling(label, element("table", attributes,
        element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))),
        element("tbody", {}, rows.map(([first, ...cells]) => element("tr", {}, element("th", { scope: "row" }, first),
            cells.map((cell) => element("td", {}, cell)))))));
}

// Return a bar as long as a share. The number beside it says the same to screen readers.
function shareBar(share) {
    const fill = element("span", { class: "fill" });
    fill.style.width = `${100 * share}%`;
    return element("span", { class: "track", "aria-hidden": "true" }, fill);
}

// Return where an arrow key moves, [right, down]; undefined for other keys, and for those of the browser, such as Alt with
// an arrow.
function arrow(event) {
    return event.ctrlKey || event.metaKey || event.altKey ? undefined : ARROWS[event.key];
}

// --- numbers ---------------------------------------------------------------------------------------------------------

function whole(n) {
    return n.toLocaleString("en");
}

// Return a share as a percentage. Only what is certain reads 0% or 100%.
function percent(share) {
    if (share === null || Number.isNaN(share)) return "–";
    if (share > 0 && share < 0.001) return "<0.1%";
    if (share < 1 && share > 0.9995) return ">99.9%";
    return `${(100 * share).toFixed(1)}%`;
}

// Return a number with about four digits.
function short(x) {
    if (x === null || x === undefined || Number.isNaN(x)) return "–";
    const size = Math.abs(x);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return x.toExponential(2);
    return Number.isInteger(x) ? whole(x) : x.toFixed(Math.max(0, 3 - Math.floor(Math.log10(size || 1))));
}

// Return a value of a feature: as short, without zeros at its end.
function datum(x) {
    const text = short(x);
    return text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text;
}

function plural(n, thing) {
    return `${whole(n)} ${thing}${n === 1 ? "" : "s"}`;
}

// --- colours ---------------------------------------------------------------------------------------------------------

// Return the red, green and blue of a custom property, such as --ink.
function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim().split(/\s+/).map(Number);
}

function mix(from, to, share) {
    return from.map((value, i) => Math.round(value + (to[i] - value) * share));
}

function css(rgb) {
    return `rgb(${rgb.join(" ")})`;
}

// Return whichever of black and white is easier to read on a colour.
function readableOn(background) {
    const [r, g, b] = background.map((value) => {
        const c = value / 255;
        return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b; // as WCAG defines it
    return luminance > 0.1791 ? "black" : "white"; // there both have the same contrast
}

const PAINTERS = new Map(); // what has colours of its own, and how to paint it

// Paint something now and, as long as it is on the page, whenever the colours change.
function painted(target, paint) {
    PAINTERS.set(target, paint);
    paint(target);
    return target;
}

function repaint() {
    for (const [target, paint] of PAINTERS) {
        if (target.isConnected) paint(target);
        else PAINTERS.delete(target);
    }
}

// Return the context of an empty, square canvas, as fine as the screen; in it, the side of the canvas is `units` long.
function blank(canvas, units) {
    const side = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio)), scale = side / units;
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, units, units);
    return context;
}

// --- pictures --------------------------------------------------------------------------------------------------------

// Return a small canvas of values (height x width). `shades()` is a function from a value to red, green and blue; without
// it, values are these three for each pixel.
function picture(values, height, width, shades, label, kind = "pixels") {
    const canvas = element("canvas", { class: kind, width, height, role: "img", "aria-label": label });
    return painted(canvas, () => {
        const context = canvas.getContext("2d"), image = context.createImageData(width, height);
        const shade = shades && shades(), n = height * width, channels = values.length / n;
        for (let i = 0; i < n; i++) {
            const [r, g, b] = shade ? shade(values[i]) : values.subarray(i * channels, i * channels + 3);
            image.data.set([r, g, b, 255], 4 * i);
        }
        context.putImageData(image, 0, 0);
    });
}

// Shades of pixels from 0 to 255: ink on paper.
function inkShades() {
    const paper = colour("--paper"), ink = colour("--ink");
    const all = Array.from({ length: 256 }, (_, level) => mix(paper, ink, level / 255));
    return (value) => all[Math.round(value)];
}

// Shades of numbers from -1 to 1: accent, paper, warm, as plots have blue, white and red.
function signedShades() {
    const paper = colour("--paper"), plus = colour("--warm"), minus = colour("--accent");
    return (value) => mix(paper, value > 0 ? plus : minus, Math.min(1, Math.abs(value)));
}
