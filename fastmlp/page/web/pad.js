// The pad: a drawing, as strokes, and what the network makes of it while it is drawn.

const INK_SIDE = 280, DEFAULT_PEN = 22, PENS = [8, 44], STEP = 7; // in pixels of the ink

function drawingSection(content, network) {
    const image = content.image;
    const canvas = element("canvas", { class: "pad", tabindex: 0, role: "application",
        "aria-label": "Drawing pad. Draw with mouse, finger or pen. Keys: arrows move, space puts the pen down or up, "
            + "u undoes, Delete clears." });
    const pen = element("input", { type: "range", id: "pen", min: PENS[0], max: PENS[1], value: DEFAULT_PEN });
    const pixels = new Float64Array(image.height * image.width);
    const seen = picture(pixels, image.height, image.width, inkShades, "The image that the network sees", "pixels seen");
    const { answer, units, ask } = answerPanels(content, network);
    const see = (values) => { // from 0 to 1, or null
        if (values) pixels.set(values.map((value) => 255 * value));
        else pixels.fill(0);
        PAINTERS.get(seen)();
        ask(values && values.map((value) => image.low + value * (image.high - image.low)));
    };
    const told = element("span", { class: "told", "aria-live": "polite" });
    const pad = new Pad(canvas, pen, (ink) => {
        told.replaceChildren();
        see(ink && normalised(ink, INK_SIDE, image));
    });
    const showRow = (i) => {
        pad.clearQuietly();
        see(Float64Array.from(pixelsOf(content, i), (value) => value / 255));
    };
    const hint = "The network runs in this page. Your drawing is fitted and centred like the test images.";
    return section("try", "Draw, and watch the network answer", hint,
        element("div", { class: "columns" },
            element("div", { class: "drawing" }, canvas,
                element("div", { class: "tools" },
                    element("label", { for: "pen" }, "Pen"), pen,
                    button("Undo", () => pad.undo()), button("Clear", () => pad.clear())),
                content.shown.pixels ? element("div", { class: "tools" }, testRows(content, "image", told, showRow), told) : null),
            answer,
            element("div", { class: "inside" }, element("figure", {}, seen,
                element("figcaption", {}, "What the network sees")), units)));
}

class Pad {
    // `changed(ink)` is called with the ink (INK_SIDE x INK_SIDE), or null if there is none.
    constructor(canvas, pen, changed) {
        Object.assign(this, { canvas, pen, changed, states: [[]], stroke: null, pointer: null, cursor: null });
        const side = element("canvas", { width: INK_SIDE, height: INK_SIDE });
        this.ink = side.getContext("2d", { willReadFrequently: true });
        this.waiting = false;
        for (const [event, act] of Object.entries({ pointerdown: "down", pointermove: "move", pointerup: "up",
            pointercancel: "up", keydown: "key", blur: "blur" })) {
            canvas.addEventListener(event, (given) => this[act](given));
        }
        new ResizeObserver(() => this.paint()).observe(canvas);
        painted(canvas, () => this.paint());
    }

    get strokes() {
        const done = this.states.at(-1);
        return this.stroke ? [...done, this.stroke] : done;
    }

    // --- pointers and keys

    at(event) {
        const box = this.canvas.getBoundingClientRect(), scale = INK_SIDE / box.width;
        return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    }

    down(event) {
        if (this.pointer !== null || event.button !== 0) return;
        this.finish();
        this.pointer = event.pointerId;
        this.cursor = null;
        this.canvas.setPointerCapture(event.pointerId);
        this.stroke = { width: Number(this.pen.value), points: [this.at(event)] };
        this.update();
    }

    move(event) {
        if (event.pointerId !== this.pointer || !this.stroke) return; // a key has ended it
        const all = event.getCoalescedEvents?.() ?? [];
        for (const each of all.length ? all : [event]) this.stroke.points.push(this.at(each));
        this.update();
    }

    up(event) {
        if (event.pointerId !== this.pointer) return;
        this.pointer = null;
        this.finish();
    }

    key(event) {
        const step = arrow(event);
        if (event.key === "u" || ((event.ctrlKey || event.metaKey) && event.key === "z")) this.undo();
        else if (event.key === "Delete" || event.key === "Backspace") this.clear();
        else if (event.key === " ") {
            this.cursor ??= [INK_SIDE / 2, INK_SIDE / 2];
            if (this.stroke) this.finish();
            else this.stroke = { width: Number(this.pen.value), points: [this.cursor] };
        } else if (step) {
            const from = this.cursor ?? [INK_SIDE / 2, INK_SIDE / 2];
            this.cursor = from.map((x, i) => Math.min(INK_SIDE, Math.max(0, x + STEP * step[i])));
            this.stroke?.points.push(this.cursor);
        } else return;
        event.preventDefault();
        this.update();
    }

    blur() {
        this.cursor = null;
        if (this.pointer === null) this.finish();
        this.paint();
    }

    // --- strokes

    finish() {
        if (this.stroke) this.states.push(this.strokes);
        this.stroke = null;
    }

    undo() {
        if (this.stroke) this.stroke = null;
        else if (this.states.length > 1) this.states.pop();
        this.update();
    }

    clear() {
        this.finish();
        if (this.strokes.length) this.states.push([]);
        this.update();
    }

    // Clear without a call of `changed`: something else is shown.
    clearQuietly() {
        this.clear();
        this.hadInk = false;
    }

    // Show and recognize once per frame, however many events there are.
    update() {
        if (this.waiting) return;
        this.waiting = true;
        requestAnimationFrame(() => {
            this.waiting = false;
            this.paint();
            this.recognize();
        });
    }

    recognize() {
        if (!this.strokes.length) {
            if (this.hadInk) this.changed(null);
            this.hadInk = false;
            return;
        }
        this.hadInk = true;
        this.ink.clearRect(0, 0, INK_SIDE, INK_SIDE);
        this.draw(this.ink);
        const { data } = this.ink.getImageData(0, 0, INK_SIDE, INK_SIDE), ink = new Uint8Array(data.length / 4);
        for (let i = 0; i < ink.length; i++) ink[i] = data[4 * i + 3];
        this.changed(ink);
    }

    draw(context) {
        context.lineCap = context.lineJoin = "round";
        for (const { width, points } of this.strokes) {
            context.lineWidth = width;
            context.beginPath();
            context.moveTo(...points[0]);
            for (let i = 1; i < points.length; i++) { // through the middles, so that corners of fast strokes are round
                const [x, y] = points[i], [nextX, nextY] = points[i + 1] ?? points[i];
                context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
            }
            context.lineTo(points.at(-1)[0] + 0.01, points.at(-1)[1]); // a line of no length, such as a dot, is not drawn
            context.stroke();
        }
    }

    paint() {
        const context = blank(this.canvas, INK_SIDE);
        context.strokeStyle = css(colour("--ink"));
        this.draw(context);
        if (this.cursor) {
            context.strokeStyle = css(colour(this.stroke ? "--warm" : "--accent"));
            context.lineWidth = 2;
            context.beginPath();
            context.arc(...this.cursor, Number(this.pen.value) / 2, 0, 2 * Math.PI);
            context.stroke();
        }
    }
}
