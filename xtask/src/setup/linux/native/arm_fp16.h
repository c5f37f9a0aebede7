/* Stand-in off ARM: mlx-c passes float16 by pointer only, so its 16 bits are all that matters. */
#pragma once
#include <stdint.h>
#define __fp16 uint16_t
