//! Runs convolutional classifiers on a CPU as fast as its multipliers go. [`kernels`] knows shapes and numbers, and nothing of graphs.

pub mod kernels;
