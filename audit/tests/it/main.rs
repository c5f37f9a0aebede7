//! Audits of small models: good conversions pass without a word, and each planted fault is named with its keys.

mod configs;
mod faults;
mod good;
mod infer;
mod model;
mod quantized;
mod reports;
