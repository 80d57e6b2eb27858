//! Pruning: what goes, what stays, and that neither time nor other machines change that.

mod basics;
mod beds;
mod blind;
mod clocks;
mod gate;
mod interleavings;
mod killed;
mod missed;
mod refused;
mod robbed;
mod scene;
mod traces;
mod versioned;
