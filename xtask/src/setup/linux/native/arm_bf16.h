/* Stand-in off ARM: mlx-c passes bfloat16 by pointer only, so its 16 bits are all that matters. */
#pragma once
#include <stdint.h>
#define __bf16 uint16_t
