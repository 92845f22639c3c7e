"""The C that `fastmlp.interchange.c` writes, for a network called ``net``: `named` puts another name in its place."""

from __future__ import annotations

import re

__all__ = [
    "ACTIVATIONS",
    "BYTES",
    "CLASSES",
    "FINITE",
    "FLOATS",
    "HEADS",
    "LOGISTIC",
    "START",
    "TEST",
    "TEST_LABELS",
    "named",
]


def named(text: str, name: str) -> str:
    """Return C text whose names begin with `name` in place of ``net``."""
    return re.sub(r"\bnet_", f"{name}_", re.sub(r"\bNET_", f"{name.upper()}_", text))


START = """
#ifndef NET_H
#define NET_H

#define NET_INPUTS {n_inputs}
#define NET_OUTPUTS {n_outputs}

#ifdef __cplusplus
extern "C" {{
#endif
{declarations}
#ifdef __cplusplus
}}
#endif
#endif

#ifndef NET_DECLARATIONS

#include <float.h>
{includes}#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if FLT_RADIX != 2 || FLT_MANT_DIG != 24 || FLT_MAX_EXP != 128
#error "float must have the 32 bits of IEEE 754"
#endif

#ifndef NET_FLASH /* address space of the tables: __flash for C on AVR, where const data is copied to RAM */
#define NET_FLASH
#endif

#ifndef NET_BUFFER /* static moves the buffers from the stack into RAM of their own; then calls must not overlap */
#define NET_BUFFER
#endif
"""

FINITE = """
/* Returns whether all numbers are finite. The bits tell, also under -ffast-math. */
static int net_finite(const float *v, size_t n)
{
    uint32_t bits;

    for (; n > 0; n--, v++) {
        memcpy(&bits, v, sizeof bits);
        if ((bits & 0x7f800000u) == 0x7f800000u)
            return 0;
    }
    return 1;
}
"""

FLOATS = """
/* z (n_out) = x (n_in) @ w (n_in, n_out) + b (n_out). Returns 0 if a number of x is not finite. */
static int net_dense(const float *x, size_t n_in, const NET_FLASH float *w, const NET_FLASH float *b,
    float *z, size_t n_out)
{
    if (!net_finite(x, n_in))
        return 0;
    for (size_t o = 0; o < n_out; o++)
        z[o] = b[o];
    for (size_t i = 0; i < n_in; i++, w += n_out) {
        const float v = x[i];
        if (v != 0.0f) /* many pixels and units of a relu are 0 */
            for (size_t o = 0; o < n_out; o++)
                z[o] += v * w[o];
    }
    return 1;
}
"""

BYTES = """
/* z (n_out) = x (n_in) @ (w (n_in, n_out) * scale (n_out)) + b (n_out). Returns 0 if a number of x is not finite.
 * x is rounded to integers from -limit to limit. No sum of products with w overflows 32 bits for the limit given. */
static int net_dense(const float *x, size_t n_in, const NET_FLASH int8_t *w, const NET_FLASH float *scale,
    const NET_FLASH float *b, float limit, float *z, size_t n_out)
{{
    NET_BUFFER int32_t sum[{width}];
    float largest = 0.0f;

    if (!net_finite(x, n_in))
        return 0;
    for (size_t i = 0; i < n_in; i++) {{
        const float size = x[i] < 0.0f ? -x[i] : x[i];
        if (size > largest)
            largest = size;
    }}
    const float step = largest / limit;
    const float inverse = largest > {smallest}f ? limit / largest : 0.0f; /* finite */
    for (size_t o = 0; o < n_out; o++)
        sum[o] = 0;
    for (size_t i = 0; i < n_in; i++, w += n_out) {{
        const float v = x[i] * inverse;
        const int16_t q = (int16_t)(v < 0.0f ? v - 0.5f : v + 0.5f);
        if (q != 0) /* many pixels and units of a relu are 0 */
            for (size_t o = 0; o < n_out; o++)
                sum[o] += (int32_t)q * w[o];
    }}
    for (size_t o = 0; o < n_out; o++)
        z[o] = (float)sum[o] * scale[o] * step + b[o];
    return 1;
}}
"""

LOGISTIC = """
static float net_logistic(float z)
{
    const float e = expf(z < 0.0f ? z : -z); /* at most 1 */
    return (z < 0.0f ? e : 1.0f) / (1.0f + e);
}
"""

ACTIVATIONS = {
    "relu": """
static float net_relu(float z)
{
    return z < 0.0f ? 0.0f : z;
}
""",
    "leaky_relu": """
static float net_leaky_relu(float z)
{
    return z < 0.0f ? 0.01f * z : z;
}
""",
    "elu": """
static float net_elu(float z)
{
    const float t = tanhf(0.5f * z); /* 2t / (1 - t) is expm1(z), which the library of AVR lacks */
    return z < 0.0f ? 2.0f * t / (1.0f - t) : z;
}
""",
    "gelu": """
static float net_gelu(float z)
{
    return 0.5f * z * (1.0f + tanhf(0.79788456f * (z + 0.044715f * z * z * z)));
}
""",
    "silu": """
static float net_silu(float z)
{
    return z * net_logistic(z);
}
""",
    "tanh": """
static float net_tanh(float z)
{
    return tanhf(z);
}
""",
    "logistic": "",
}
"""Functions of z, beside `LOGISTIC`, by the names of `fastmlp.activations.ACTIVATIONS`; "identity" needs none."""

_PROBA = "/* Writes the probability of each {what}. Returns 0, or -1 if a number is not finite. */\n"
_PREDICT_PROBA = "int net_predict_proba(const float x[NET_INPUTS], float p[NET_OUTPUTS])"

_CLASS = (
    "/* Returns the most probable class, {classes}, or -1 if a number is not finite. */\n"
    "int net_predict(const float x[NET_INPUTS]);\n" + _PROBA.format(what="class") + _PREDICT_PROBA + ";\n"
)

_NUMBERS = (
    "/* Writes the predictions. Returns 0, or -1 if a number is not finite. */\n"
    "int net_predict(const float x[NET_INPUTS], float y[NET_OUTPUTS]);\n"
)

CLASSES = "/* Names of the classes. */\nextern const char *const net_classes[NET_OUTPUTS];\n"

HEADS = {
    "softmax": (
        _CLASS,
        """
int net_predict(const float x[NET_INPUTS])
{
    NET_BUFFER float z[NET_OUTPUTS];
    int best = 0;

    if (!net_logits(x, z))
        return -1;
    for (int o = 1; o < NET_OUTPUTS; o++)
        if (z[o] > z[best])
            best = o;
    return best;
}

int net_predict_proba(const float x[NET_INPUTS], float p[NET_OUTPUTS])
{
    float largest, sum = 0.0f;

    if (!net_logits(x, p))
        return -1;
    largest = p[0];
    for (int o = 1; o < NET_OUTPUTS; o++)
        if (p[o] > largest)
            largest = p[o];
    for (int o = 0; o < NET_OUTPUTS; o++) {
        p[o] = expf(p[o] - largest);
        sum += p[o];
    }
    for (int o = 0; o < NET_OUTPUTS; o++)
        p[o] /= sum;
    return 0;
}
""",
    ),
    "two classes": (
        _CLASS,
        """
int net_predict(const float x[NET_INPUTS])
{
    float z;

    if (!net_logits(x, &z))
        return -1;
    return z > 0.0f;
}

int net_predict_proba(const float x[NET_INPUTS], float p[NET_OUTPUTS])
{
    float z;

    if (!net_logits(x, &z))
        return -1;
    p[0] = net_logistic(-z);
    p[1] = net_logistic(z);
    return 0;
}
""",
    ),
    "logistic": (
        "/* Writes 0 or 1 for each label. Returns 0, or -1 if a number is not finite. */\n"
        "int net_predict(const float x[NET_INPUTS], int labels[NET_OUTPUTS]);\n"
        + _PROBA.format(what="label")
        + _PREDICT_PROBA
        + ";\n",
        """
int net_predict(const float x[NET_INPUTS], int labels[NET_OUTPUTS])
{
    NET_BUFFER float z[NET_OUTPUTS];

    if (!net_logits(x, z))
        return -1;
    for (int o = 0; o < NET_OUTPUTS; o++)
        labels[o] = z[o] > 0.0f;
    return 0;
}

int net_predict_proba(const float x[NET_INPUTS], float p[NET_OUTPUTS])
{
    if (!net_logits(x, p))
        return -1;
    for (int o = 0; o < NET_OUTPUTS; o++)
        p[o] = net_logistic(p[o]);
    return 0;
}
""",
    ),
    "identity": (
        _NUMBERS,
        """
int net_predict(const float x[NET_INPUTS], float y[NET_OUTPUTS])
{
    return net_logits(x, y) ? 0 : -1;
}
""",
    ),
    "exp": (
        _NUMBERS,
        """
int net_predict(const float x[NET_INPUTS], float y[NET_OUTPUTS])
{
    if (!net_logits(x, y))
        return -1;
    for (int o = 0; o < NET_OUTPUTS; o++)
        y[o] = expf(y[o]);
    return net_finite(y, NET_OUTPUTS) ? 0 : -1;
}
""",
    ),
}
"""Declarations and definitions for each `output` of a network; a single logistic output is "two classes"."""

TEST = """\
/* Tests {file}, a network {written}, on {n_rows} rows. To run it:
 *
 *     cc -std=c99 -O2 {test} -lm && ./a.out
 *
 * The exit status is 0 if all rows are right.
 */
#include "{file}"

#include <stdio.h>
{tables}
int main(void)
{{
    const float tolerance = {tolerance}f;
    float x[NET_INPUTS], outputs[NET_OUTPUTS], largest = 0.0f;
    int n_wrong = 0;

    for (size_t row = 0; row < {n_rows}; row++) {{
        const NET_FLASH float *expected = net_expected + row * NET_OUTPUTS;
        int wrong = 0;
        for (size_t i = 0; i < NET_INPUTS; i++)
            x[i] = net_rows[row * NET_INPUTS + i];
        if ({call}(x, outputs) != 0) {{
            n_wrong++;
            continue;
        }}
        for (size_t o = 0; o < NET_OUTPUTS; o++) {{
            const float difference = outputs[o] - expected[o];
            const float size = difference < 0.0f ? -difference : difference;
            if (size > largest)
                largest = size;
            wrong |= !(size <= tolerance);
        }}
{labels}        n_wrong += wrong;
    }}
    printf("%d of {n_rows} rows are wrong; the largest difference is %g, up to %g is right\\n", n_wrong,
           (double)largest, (double)tolerance);
    return n_wrong > 0;
}}
"""

TEST_LABELS = {
    "softmax": """\
        const int label = net_predict(x);
        for (size_t o = 0; o < NET_OUTPUTS; o++)
            wrong |= label < 0 || expected[label] + tolerance < expected[o];
""",
    "logistic": """\
        int labels[NET_OUTPUTS];
        wrong |= net_predict(x, labels) != 0;
        for (size_t o = 0; o < NET_OUTPUTS; o++)
            wrong |= labels[o] != (expected[o] > 0.5f) && fabsf(expected[o] - 0.5f) > tolerance;
""",
}
TEST_LABELS["two classes"] = TEST_LABELS["softmax"]
"""How the test program compares labels. In a tie, any is right."""
