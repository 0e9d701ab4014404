#pragma once

// Included before any header of Highway: the instruction classes that our kernels are compiled for.
// AVX2 (with FMA and F16C) and AVX-512; nothing older has a fused multiply-add, nothing newer
// changes a kernel. Highway's own fallback of 128 bits is compiled always: there the tables of
// verbs are empty.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
