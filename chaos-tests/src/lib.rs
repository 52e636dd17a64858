//! Lab, subscriber simulator, simulation, nemeses, checkers.
