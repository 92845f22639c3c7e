// Data with two features: where the network decides what, and its answer at any point.

const CELLS = 96, CELLS_PER_FRAME = 400000; // the latter in multiply-adds
const N_COLOURS = 8, MOST_IN_LEGEND = 30; // the former in page.css

function planeSection(content, network) {
    const { x, y, names } = content.plane;
    const canvas = element("canvas", { class: "plane", tabindex: 0, role: "application",
        "aria-label": "The plane of both features. Click, or move with the arrow keys, to ask the network." });
    const { answer, units, ask } = answerPanels(content, network);
    const where = element("p", { class: "told" });
    const plane = new Plane(canvas, content, network, (point) => {
        where.replaceChildren(named(names[0]), ` ${datum(point[0])}, `, named(names[1]), ` ${datum(point[1])}`);
        ask(point);
    });
    const { classes } = content, more = classes.length - MOST_IN_LEGEND;
    const legend = content.kind === "classes"
        ? element("ul", { class: "legend" }, classes.slice(0, MOST_IN_LEGEND).map((name, i) => {
            const dot = painted(element("span", { class: "dot" }), (each) => { each.style.background = css(hue(i, classes.length)); });
            return element("li", {}, dot, named(name));
        }), more > 0 ? element("li", {}, `and ${whole(more)} more`) : null)
        : element("p", { class: "told" }, content.kind === "numbers" ? "Stronger colour: larger output." : "");
    const numbers = content.kind === "numbers", wrong = numbers ? "" : "; a ring marks a wrong guess";
    return section("try", numbers ? "What it predicts where" : "Where it decides what",
        `Click anywhere, drag, or use the arrow keys. Dots are test rows${wrong}.`,
        element("div", { class: "columns" },
            element("div", { class: "drawing" },
                element("div", { class: "axes" },
                    element("span", {}, named(names[1]), ` ${datum(y.low)} to ${datum(y.high)}`),
                    canvas,
                    element("span", { class: "x-name" }, named(names[0]), ` ${datum(x.low)} to ${datum(x.high)}`)),
                legend),
            element("div", {}, where, answer), element("div", { class: "inside" }, units)));
}

// Return the colour of class i of n: one of page.css, in a shade of its own if there are more classes than these.
function hue(i, n) {
    const shade = Math.floor(i / N_COLOURS) / Math.ceil(n / N_COLOURS);
    return mix(colour(`--class-${i % N_COLOURS}`), colour("--ink"), 0.75 * shade);
}

class Plane {
    constructor(canvas, content, network, asked) {
        Object.assign(this, { canvas, content, network, asked, probe: null, rows: [] });
        canvas.addEventListener("pointerdown", (event) => {
            canvas.setPointerCapture(event.pointerId);
            this.ask(event);
        });
        canvas.addEventListener("pointermove", (event) => event.buttons && this.ask(event));
        canvas.addEventListener("keydown", (event) => this.key(event));
        new ResizeObserver(() => this.paint()).observe(canvas);
        painted(canvas, () => this.paint());
        this.compute();
    }

    ask(event) {
        const box = this.canvas.getBoundingClientRect();
        this.put((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    }

    key(event) {
        const step = arrow(event), [u, v] = this.probe ?? [0.5, 0.5];
        if (!step) return;
        event.preventDefault();
        this.put(u + 0.02 * step[0], v + 0.02 * step[1]);
    }

    // Ask at a place, as shares of width and height.
    put(u, v) {
        this.probe = [u, v].map((share) => Math.min(1, Math.max(0, share)));
        this.asked(this.pointAt(...this.probe));
        this.paint();
    }

    pointAt(u, v) {
        const { x, y } = this.content.plane;
        return [x.low + u * (x.high - x.low), y.high - v * (y.high - y.low)];
    }

    // Compute the answers row by row, for a few milliseconds in each frame.
    compute() {
        const { layers } = this.network;
        const work = this.network.members.length * layers.slice(1).reduce((sum, n, l) => sum + n * layers[l], 0);
        const nRows = Math.max(1, Math.floor(CELLS_PER_FRAME / work / CELLS));
        for (let i = 0; i < nRows && this.rows.length < CELLS; i++) {
            const v = (this.rows.length + 0.5) / CELLS;
            this.rows.push(Array.from({ length: CELLS }, (_, c) => this.network.answer(this.pointAt((c + 0.5) / CELLS, v)).outputs));
        }
        if (this.rows.length < CELLS) setTimeout(() => this.compute());
        this.paint();
    }

    // Return a function from outputs to red, green and blue.
    shades() {
        const paper = colour("--paper");
        if (this.content.kind === "numbers") {
            const all = this.rows.flat().map((outputs) => outputs[0]);
            const low = Math.min(...all), span = Math.max(...all) - low || 1, strong = colour("--accent");
            return (outputs) => mix(paper, strong, 0.08 + 0.72 * ((outputs[0] - low) / span));
        }
        const hues = this.content.classes.map((_, i) => hue(i, this.content.classes.length));
        const total = (outputs) => (this.content.kind === "labels" ? Math.max(1, outputs.reduce((a, b) => a + b)) : 1);
        return (outputs) => {
            const of = total(outputs);
            const full = paper.map((_, k) => outputs.reduce((sum, p, i) => sum + (p / of) * hues[i][k], 0));
            const rest = 1 - Math.min(1, outputs.reduce((a, b) => a + b) / of);
            return mix(paper, full.map((value, k) => value + rest * paper[k]), 0.42);
        };
    }

    paint() {
        const side = this.canvas.clientWidth, context = blank(this.canvas, side || 1);
        if (this.rows.length) {
            const shade = this.shades(), image = new ImageData(CELLS, this.rows.length);
            this.rows.flat().forEach((outputs, i) => image.data.set([...shade(outputs), 255], 4 * i));
            const small = element("canvas", { width: CELLS, height: this.rows.length });
            small.getContext("2d").putImageData(image, 0, 0);
            context.imageSmoothingEnabled = true;
            context.drawImage(small, 0, 0, side, (side * this.rows.length) / CELLS);
        }
        this.paintPoints(context, side);
        if (this.probe) {
            const [u, v] = this.probe.map((share) => share * side);
            context.strokeStyle = css(colour("--ink"));
            context.lineWidth = 2;
            context.beginPath();
            for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
                context.moveTo(u + 4 * dx, v + 4 * dy);
                context.lineTo(u + 11 * dx, v + 11 * dy);
            }
            context.stroke();
        }
    }

    paintPoints(context, side) {
        const { x, y, points } = this.content.plane, radius = points.x.length > 400 ? 2 : 3.5;
        const ink = css(colour("--ink")), paper = css(colour("--paper"));
        const hues = this.content.classes.map((_, i) => css(hue(i, this.content.classes.length)));
        points.x.forEach((value, i) => {
            context.beginPath();
            context.arc((side * (value - x.low)) / (x.high - x.low), (side * (y.high - points.y[i])) / (y.high - y.low),
                radius, 0, 2 * Math.PI);
            context.fillStyle = points.true ? hues[points.true[i]] : ink;
            context.strokeStyle = points.wrong?.[i] ? ink : paper;
            context.lineWidth = points.wrong?.[i] ? 2 : 1;
            context.fill();
            context.stroke();
        });
    }
}
