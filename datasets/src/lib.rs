//! Data sets: specification, reading, splits, tokenising and batch order.
