//! The server over real sockets: what it promises, and what it bears.

mod browsers;
mod clients;
mod contract;
mod hostile;
mod load;
mod support;
