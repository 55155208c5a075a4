//! Training one method with one seed: examples and recipe in, a record out.

pub mod augmenter;
pub mod completions;
pub mod encoded;
pub mod features;
pub mod head;
pub mod logistic;
pub mod model;
pub mod neighbours;
pub mod optimiser;
pub mod prepared;
pub mod recipe;
pub mod run;
pub mod trainer;
pub mod words;
