//! Whole conversions, and the parts of them that are seen from outside. One program, for the time that linking each would take.

mod candle;
mod directory;
mod hostile_pickle;
mod interrupted;
mod library;
mod met;
mod mistaken;
mod packing;
mod pickle;
mod prequantized;
mod projectors;
mod properties;
mod quantize;
mod rearrange;
mod recipe_files;
mod recipes;
mod recipes_for_others;
mod release;
mod support;
mod transforms;
mod translated;
mod violations;
