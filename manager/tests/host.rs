//! The flows on real storage.
