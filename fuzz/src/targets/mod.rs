//! One file per target. Each says what its input is and lists, as assertions, what must hold for any input.

pub mod config;
pub mod expression;
pub mod fixture_manifest;
pub mod geometry;
pub mod grounding;
pub mod header;
pub mod index;
pub mod ledger;
pub mod legacy;
pub mod lock;
pub mod manifest;
pub mod page;
pub mod pickle;
pub mod plan;
pub mod recipe;
pub mod renames;
pub mod report;
pub mod request;
