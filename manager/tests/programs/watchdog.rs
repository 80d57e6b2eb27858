//! What `stockpot quiesce-watchdog` is, for tests whose manager runs in another program.

fn main() {
    stockpot_manager::quiesce::watchdog();
}
