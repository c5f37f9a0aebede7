//! Recipes: the table that says which tensor becomes which, and which config it is for.
//!
//! A recipe is a TOML or JSON file (docs/recipes.md explains every key; `recipes/` holds the built-in ones).
//! [`Recipe::parse`] turns it into expressions and patterns and refuses anything inconsistent, all complaints at once. It never looks at a checkpoint: that is
//! [`crate::plan`].

mod builtin;
mod checked;
mod checker;
pub mod config;
pub mod expr;
mod format;
pub mod packing;
mod parse;
pub mod pattern;
mod rearrange;
mod table;
mod value;

pub use checked::{Action, IndexSet, Lay, Op, Recipe, Row};
