//! The real appliance between a fake cluster and a fake Lambda, over real sockets.

mod delivery;
