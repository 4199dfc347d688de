//! The member against a coordinator played by hand.

mod assigning;
mod failing;
mod joining;
mod script;

use super::*;
