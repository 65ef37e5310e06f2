//! Every route, with good and with bad input, beyond what the recordings hold.

mod graph;
