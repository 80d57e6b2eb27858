//! The command line as its users meet it: the built binary against an S3 server in this process.

mod backup_restore;
mod bad_input;
mod bench;
mod draining;
mod faults;
mod first_steps;
mod help;
mod host;
mod increments;
mod interrupts;
mod keys;
mod limits;
mod pki;
mod printing;
mod salvage;
mod schedules;
mod sealing;
mod serve;
mod shell;
mod silence;
mod thief;
mod upkeep;
mod verify;
mod volumes;
