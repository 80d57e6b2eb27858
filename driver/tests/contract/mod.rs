//! What every driver promises, as cases that run on any of them.

mod attach;
pub(crate) mod bench;
mod content;
mod life;
mod refusals;
mod replace;

use std::{sync::Arc, time::Instant};

use bench::Bench;
pub(crate) use bench::Nature;
use stockpot_driver::VolumeDriver;

/// Runs every case, each from an empty pool to an empty pool.
pub(crate) async fn run(driver: Arc<dyn VolumeDriver>, nature: Nature) {
    run_some(driver, nature, |_| true).await;
}

/// Runs the cases of which `wanted` says so by their name.
pub(crate) async fn run_some(
    driver: Arc<dyn VolumeDriver>,
    nature: Nature,
    wanted: impl Fn(&str) -> bool,
) {
    for _ in 0..2 {
        driver.check().await.unwrap();
    }
    let bench = Bench::new(driver, nature).await;
    macro_rules! cases {
        ($($module:ident :: $case:ident),+ $(,)?) => {$(
            if wanted(stringify!($case)) {
                let started = Instant::now();
                $module::$case(&bench).await;
                bench.assert_empty().await;
                let took = started.elapsed();
                println!("{} {}: {took:.1?}", bench.driver.name(), stringify!($case));
            }
        )+};
    }
    cases![
        life::volumes_come_and_go,
        life::snapshots_come_and_go,
        life::volumes_are_made_from_snapshots,
        life::volumes_are_cloned,
        life::volumes_grow,
        life::every_id_is_usable,
        life::calls_at_the_same_time_agree,
        life::a_call_that_was_cut_off_is_finished_by_the_next,
        life::capacity_tells_the_room,
        content::a_new_volume_reads_as_zeroes,
        content::a_snapshot_is_of_one_moment,
        content::a_snapshot_outlives_its_volume,
        content::copies_go_their_own_way,
        content::a_mounted_volume_gives_a_whole_snapshot,
        content::ranges_cover_all_data,
        content::what_differs_is_told,
        content::what_a_volume_grows_by_reads_as_zeroes,
        attach::attaching_twice_is_attaching_once,
        attach::a_volume_grows_while_it_is_attached,
        attach::what_is_open_is_not_removed,
        attach::what_is_mounted_is_not_removed,
        refusals::what_is_not_there_is_not_found,
        refusals::impossible_sizes_are_refused_with_figures,
        life::volumes_and_snapshots_go_in_the_order_that_their_kind_allows,
        refusals::another_of_the_same_id_is_refused,
        replace::one_volume_takes_the_place_of_another,
        replace::snapshots_show_what_a_volume_held_before,
        replace::what_is_open_or_too_small_takes_no_place,
        replace::a_replacement_that_was_cut_off_is_finished,
    ];
}
