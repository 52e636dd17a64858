//! Lab, subscriber simulator, simulation, nemeses, checkers.

pub mod bench;
pub mod chaos;
pub mod demo;
pub mod lab;
pub mod scenario;
