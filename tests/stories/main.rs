//! Stories of the delivery core: each sets up an order of events that once lost records, stopped a lane or
//! ended the process, and says what must come of it.

mod group;
mod memory;
mod positions;
mod start;
