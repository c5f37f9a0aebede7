//! The server over real sockets: what it promises, and what it bears.

mod contract;
mod hostile;
mod support;
