// The confusion matrix, the rows behind each of its cells, and the wrong guesses.

const WITH_NUMBERS = 25, MOST_SHOWN = 48;

function confusionSection(content) {
    const { counts, classes } = content.matrix;
    const detail = element("div", { class: "detail", "aria-live": "polite" });
    const open = (t, g, n) => { // of the matrix, or not in it
        detail.replaceChildren(...cellRows(content, t, g, n));
        for (const cell of matrix.querySelectorAll("td[aria-selected=true]")) cell.setAttribute("aria-selected", "false");
        const row = classes.indexOf(t), column = classes.indexOf(g);
        if (row >= 0 && column >= 0) matrix.rows[row + 2].cells[column + 1].setAttribute("aria-selected", "true");
    };
    const matrix = matrixTable(content, (row, column) => open(classes[row], classes[column], counts[row][column]));
    const common = content.confusions.map(({ true: t, guess: g, n }) => element("li", {},
        button(element("span", {}, named(content.classes[t]), " taken for ", named(content.classes[g])),
            () => open(t, g, n), { class: "plain" }),
        element("span", { class: "number" }, whole(n))));
    const [first] = content.confusions;
    if (first) open(first.true, first.guess, first.n);
    const left = content.classes.length - classes.length;
    const note = left > 0 ? ` Shown are the ${classes.length} classes with the most errors, of ${content.classes.length}.` : "";
    return section("confusion", "Confusion matrix", `Rows are true classes, columns guesses. Choose a cell to see its rows.${note}`,
        element("div", { class: classes.length > WITH_NUMBERS ? "confusion dense-columns" : "confusion" },
            element("div", { class: "scroll" }, matrix),
            element("div", {}, common.length ? [element("h3", {}, "Most common confusions"), element("ol", { class: "common" }, common)] : [])),
        detail);
}

// Return the matrix as a table. Arrow keys move between cells; Enter, space and clicks call `open`.
function matrixTable({ classes: names, matrix }, open) {
    const { counts, classes } = matrix, n = classes.length;
    const cells = counts.map((row, t) => row.map((count, g) => element("td", {
        "data-t": t, "data-g": g, tabindex: t + g === 0 ? 0 : -1, "aria-selected": "false", role: "gridcell",
        "aria-label": `${names[classes[t]]} as ${names[classes[g]]}: ${count}` },
    n <= WITH_NUMBERS && count ? `${count}` : null)));
    const grid = element("table", { class: n <= WITH_NUMBERS ? "matrix" : "matrix dense", role: "grid", "aria-label": "Confusion matrix" },
        element("thead", {},
            element("tr", {}, element("td"), element("th", { colspan: n, class: "side" }, "guess")),
            element("tr", {}, element("th", { class: "side", scope: "col" }, "true"),
                classes.map((c) => element("th", { scope: "col", title: names[c] }, named(names[c]))))),
        element("tbody", {}, cells.map((row, t) => element("tr", {},
            element("th", { scope: "row", title: names[classes[t]] }, named(names[classes[t]])), row))));
    grid.style.setProperty("--n", n);
    const move = (t, g) => {
        if (!cells[t]?.[g]) return;
        grid.querySelector("td[tabindex='0']").tabIndex = -1;
        cells[t][g].tabIndex = 0;
        cells[t][g].focus();
    };
    const place = (event) => {
        const cell = event.target.closest("td[data-t]");
        return cell && [Number(cell.dataset.t), Number(cell.dataset.g)];
    };
    grid.addEventListener("click", (event) => {
        const at = place(event);
        if (!at) return;
        move(...at);
        open(...at);
    });
    grid.addEventListener("keydown", (event) => {
        const at = place(event), step = arrow(event);
        if (!at) return;
        if (step) move(at[0] + step[1], at[1] + step[0]);
        else if (event.key === "Enter" || event.key === " ") open(...at);
        else return;
        event.preventDefault();
    });
    return painted(grid, () => shadeCells(cells, counts));
}

// Shade each cell by its share of the true class; small shares of wrong guesses still show.
function shadeCells(cells, counts) {
    const paper = colour("--card"), good = colour("--accent"), bad = colour("--warm");
    counts.forEach((row, t) => {
        const total = row.reduce((a, b) => a + b) || 1;
        row.forEach((count, g) => {
            const { style } = cells[t][g];
            if (!count) {
                style.backgroundColor = style.color = "";
                return;
            }
            const share = t === g ? 0.12 + 0.88 * (count / total) ** 2 : Math.min(1, 0.14 + 1.2 * Math.sqrt(count / total));
            const shade = mix(paper, t === g ? good : bad, share);
            style.backgroundColor = css(shade);
            style.color = readableOn(shade);
        });
    });
}

// Return what to show of the rows of a cell.
function cellRows(content, t, g, count) {
    const { shown } = content;
    const rows = [...shown.row.keys()].filter((i) => shown.true[i] === t && shown.guess[i] === g);
    const outcome = t === g ? [", recognized"] : [" taken for ", named(content.classes[g])];
    const title = element("h3", {}, named(content.classes[t]), ...outcome, `: ${plural(count, "row")}`);
    if (!count) return [title];
    const kept = rows.slice(0, MOST_SHOWN);
    const some = kept.length < count ? [element("p", { class: "told" }, `Shown: ${kept.length}, the most confident first.`)] : [];
    return [title, ...some, ...rowsShown(content, kept)];
}

function wrongSection(content) {
    const { shown } = content;
    const numbers = content.kind === "numbers";
    const wrong = [...shown.row.keys()].filter((i) => shown.wrong[i]).slice(0, MOST_SHOWN / 2);
    const title = numbers ? "Largest errors" : "Wrong guesses";
    const intro = numbers ? "The test rows furthest from the truth."
        : `${plural(content.n_wrong, "test row")} of ${whole(content.n_rows)} ${content.n_wrong === 1 ? "is" : "are"} guessed wrong. The most confident first.`;
    return section("wrong", title, intro, ...(wrong.length ? rowsShown(content, wrong) : [element("p", {}, "There are none.")]));
}

// --- rows ------------------------------------------------------------------------------------------------------------

// Return rows as images with captions, or as lines of a table.
function rowsShown(content, chosen) {
    const { shown } = content, outcome = (i) => element("span", {}, named(guessed(content, i)),
        shown.p ? element("span", { class: "number" }, ` ${percent(shown.p[i])}`) : null);
    if (shown.pixels) {
        const { height, width } = content.image;
        return [element("ul", { class: "images" }, chosen.map((i) => element("li", {},
            picture(pixelsOf(content, i), height, width, content.image.channels > 1 ? null : inkShades, `Test row ${shown.row[i]}`),
            element("span", { class: shown.wrong[i] ? "guess bad" : "guess" }, outcome(i)),
            element("span", { class: "truth" }, shown.wrong[i] ? ["in truth ", named(truth(content, i))] : `row ${whole(shown.row[i])}`))))];
    }
    const value = (i, k) => (shown.cells ? named(shown.cells[i][k]) : datum(valuesOf(content, i)[k]));
    return [table("Rows", ["row", "guess", "truth", ...shown.columns.map(named)],
        chosen.map((i) => [whole(shown.row[i]), outcome(i), named(truth(content, i)), ...shown.columns.map((_, k) => value(i, k))]))];
}

function pixelsOf({ shown, image }, i) {
    const size = image.height * image.width * image.channels;
    return shown.pixels.subarray(i * size, (i + 1) * size);
}

function valuesOf({ shown, n_features: n }, i) {
    return shown.values.subarray(i * n, (i + 1) * n);
}

function truth(content, i) {
    return outcomeText(content, content.shown.true[i]);
}

function guessed(content, i) {
    return outcomeText(content, content.shown.guess[i]);
}

// Return a class, labels or numbers as text.
function outcomeText({ kind, classes }, value) {
    if (kind === "classes") return classes[value];
    const all = [value].flat();
    if (kind === "numbers") return all.map(short).join(", ");
    return all.length ? all.map((i) => classes[i]).join(", ") : "none";
}
