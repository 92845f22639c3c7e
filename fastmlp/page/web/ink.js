// Drawings become images like those of training, as MNIST was made: the ink is fitted into a box, keeping its aspect
// ratio, and its centre of mass is put where that of the data is. Each pixel is the mean of the ink that falls on it.

const FAINT = 64; // of 255: less ink than this is the soft edge of a stroke

// Return pixels (height x width) from 0 to 1, or null if there is no ink.
// `ink` is side x side, from 0 to 255. `image` has height, width, `fit`, the side of the box, and `centre`, [x, y].
function normalised(ink, side, { height, width, fit, centre }) {
    const box = bounds(ink, side);
    if (box === null) return null;
    const scale = fit / Math.max(box.right - box.left, box.bottom - box.top); // pixels of the image per pixel of ink
    const sums = summed(ink, side), mass = massCentre(ink, side);
    const left = origin(mass.x, centre[0], scale, box.left, box.right, width);
    const top = origin(mass.y, centre[1], scale, box.top, box.bottom, height);
    const pixels = new Float64Array(height * width), area = 255 / (scale * scale);
    for (let r = 0; r < height; r++) {
        for (let c = 0; c < width; c++) {
            const x0 = left + c / scale, y0 = top + r / scale, x1 = x0 + 1 / scale, y1 = y0 + 1 / scale;
            const total = sumTo(sums, side, x1, y1) - sumTo(sums, side, x0, y1)
                - sumTo(sums, side, x1, y0) + sumTo(sums, side, x0, y0);
            pixels[r * width + c] = Math.min(1, Math.max(0, total / area));
        }
    }
    return pixels;
}

// Return where the image begins in the drawing, such that the mass is at `centre` and all ink is in the image.
function origin(mass, centre, scale, from, to, size) {
    const best = mass - centre / scale;
    const first = to - size / scale, last = from;
    return first <= last ? Math.min(last, Math.max(first, best)) : (first + last) / 2;
}

function bounds(ink, side) {
    let left = side, top = side, right = 0, bottom = 0;
    for (let y = 0; y < side; y++) {
        for (let x = 0; x < side; x++) {
            if (ink[y * side + x] < FAINT) continue;
            left = Math.min(left, x);
            right = Math.max(right, x + 1);
            top = Math.min(top, y);
            bottom = Math.max(bottom, y + 1);
        }
    }
    return right > left ? { left, top, right, bottom } : null;
}

function massCentre(ink, side) {
    let total = 0, x = 0, y = 0;
    for (let i = 0; i < ink.length; i++) {
        total += ink[i];
        x += ink[i] * ((i % side) + 0.5);
        y += ink[i] * (Math.floor(i / side) + 0.5);
    }
    return { x: x / total, y: y / total };
}

// Return the sums of all ink above and to the left of each corner, (side + 1) x (side + 1).
function summed(ink, side) {
    const sums = new Float64Array((side + 1) * (side + 1));
    for (let y = 0; y < side; y++) {
        let row = 0;
        for (let x = 0; x < side; x++) {
            row += ink[y * side + x];
            sums[(y + 1) * (side + 1) + x + 1] = sums[y * (side + 1) + x + 1] + row;
        }
    }
    return sums;
}

// Return the ink above and to the left of any point; between corners the sums are bilinear.
function sumTo(sums, side, x, y) {
    x = Math.min(side, Math.max(0, x));
    y = Math.min(side, Math.max(0, y));
    const x0 = Math.min(side - 1, Math.floor(x)), y0 = Math.min(side - 1, Math.floor(y)), i = y0 * (side + 1) + x0;
    const u = x - x0, v = y - y0;
    return (1 - v) * ((1 - u) * sums[i] + u * sums[i + 1])
        + v * ((1 - u) * sums[i + side + 1] + u * sums[i + side + 2]);
}
