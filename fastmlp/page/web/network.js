// The network: its parameters, and what it answers. The formulas are those of fastmlp/activations.py and losses.py.

const ACTIVATIONS = {
    relu: (z) => Math.max(z, 0),
    leaky_relu: (z) => (z > 0 ? z : 0.01 * z),
    elu: (z) => (z > 0 ? z : Math.expm1(z)),
    gelu: (z) => 0.5 * z * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z * z * z))),
    silu: (z) => z * logistic(z),
    tanh: Math.tanh,
    logistic,
    identity: (z) => z,
};

// From the sums of the last layer to probabilities, or to numbers.
const OUTPUTS = {
    softmax: (z) => {
        const top = z.reduce((a, b) => Math.max(a, b)), e = z.map((value) => Math.exp(value - top));
        const sum = e.reduce((a, b) => a + b);
        return e.map((value) => value / sum);
    },
    logistic: (z) => (z.length === 1 ? Float64Array.of(logistic(-z[0]), logistic(z[0])) : z.map(logistic)),
    identity: (z) => z,
    exp: (z) => z.map(Math.exp),
};

function logistic(z) {
    const e = Math.exp(-Math.abs(z));
    return (z >= 0 ? 1 : e) / (1 + e);
}

// Return the bytes that Python has compressed by zlib and written in base64.
async function inflate(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Return float32 numbers whose bytes are apart: first the lowest byte of each, and so on.
function floats(bytes) {
    const n = bytes.length / 4, whole = new Uint8Array(4 * n);
    for (let k = 0; k < 4; k++) {
        for (let i = 0; i < n; i++) whole[4 * i + k] = bytes[k * n + i];
    }
    return new Float32Array(whole.buffer);
}

class Network {
    // `held` is what fastmlp/page/network.py writes, `parameters` all weights (I x O) and biases, one after another.
    constructor(held, parameters) {
        Object.assign(this, held);
        this.members = [];
        let start = 0;
        const next = (size) => parameters.subarray(start, (start += size));
        for (let m = 0; m < held.members; m++) {
            this.members.push(held.layers.slice(1).map((outputs, l) => (
                { weights: next(held.layers[l] * outputs), biases: next(outputs), outputs }
            )));
        }
    }

    static async read(held) {
        return new Network(held, floats(await inflate(held.parameters)));
    }

    // Return the inputs of the first layer for a row of X.
    scaled(row) {
        let x = Float64Array.from(row, (value) => value * this.scale);
        for (const { shift, factor, low, high } of this.steps) {
            x = x.map((value, i) => Math.min(high, Math.max(low, value * factor[i] + shift[i])));
        }
        return x;
    }

    // Return the answer to a row of X: `outputs`, probabilities or numbers, the mean of all members; and `hidden`, the
    // outputs of each hidden layer of the first member.
    answer(row) {
        const x = this.scaled(row);
        let hidden = null, outputs = null;
        for (const member of this.members) {
            const layers = this.layersOf(member, x), own = OUTPUTS[this.output](layers.pop());
            hidden ??= layers;
            outputs = outputs === null ? own : outputs.map((value, i) => value + own[i]);
        }
        return { outputs: outputs.map((value) => value / this.members.length), hidden };
    }

    layersOf(member, x) {
        const layers = [];
        member.forEach(({ weights, biases, outputs }, l) => {
            const z = Float64Array.from(biases);
            for (let i = 0; i < x.length; i++) {
                const value = x[i];
                if (value === 0) continue; // most pixels
                for (let o = 0, w = i * outputs; o < outputs; o++, w++) z[o] += value * weights[w];
            }
            x = l < member.length - 1 ? z.map(ACTIVATIONS[this.activations[l]]) : z;
            layers.push(x);
        });
        return layers;
    }

    // Return the weights of a unit of the first hidden layer.
    weightsInto(unit) {
        const { weights, outputs } = this.members[0][0];
        return Float64Array.from({ length: this.layers[0] }, (_, i) => weights[i * outputs + unit]);
    }
}

// Return the position of the largest number, the first of several.
function largest(values) {
    let best = 0;
    for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
    return best;
}
