//! assignor
