//! Lists: whose, which, in which order, and page by page.

use serde_json::json;

use crate::lab::{Answer, Lab, World};

fn names(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let volumes = answer.body["volumes"].as_array().unwrap();
    volumes
        .iter()
        .map(|v| v["name"].as_str().unwrap())
        .collect()
}

async fn make(lab: &Lab<'_>, project: &str, name: &str, size: u32) {
    let body = json!({"volume": {"name": name, "size": size}});
    let made = lab.post(&format!("/v3/{project}/volumes"), &body).await;
    assert_eq!(made.status, 202, "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_filters_and_projects() {
    let world = World::new();
    let mut lab = world.start().await;
    lab.volume("csi", 1).await;
    for (name, size) in [("a", 3), ("b", 1), ("c", 2)] {
        make(&lab, "p", name, size).await;
    }
    make(&lab, "other", "d", 1).await;
    // Newest first; what did not come by this API belongs to all.
    assert_eq!(
        names(&lab.get("/v3/p/volumes").await),
        ["c", "b", "a", "csi"]
    );
    assert_eq!(names(&lab.get("/v3/other/volumes").await), ["d", "csi"]);
    for all in ["all_tenants=1", "all_tenants=True"] {
        let path = format!("/v3/p/volumes/detail?{all}&sort=name:asc");
        assert_eq!(names(&lab.get(&path).await), ["a", "b", "c", "csi", "d"]);
    }
    let of_one = lab
        .get("/v3/p/volumes?all_tenants=1&project_id=other")
        .await;
    assert_eq!(names(&of_one), ["d"]);
    for (query, found) in [
        ("sort=size:asc,name:desc", vec!["csi", "b", "c", "a"]),
        ("sort_key=name&sort_dir=asc", vec!["a", "b", "c", "csi"]),
        ("name=b", vec!["b"]),
        ("status=error", vec![]),
        (
            "status=available&sort=name:asc&offset=1&limit=2",
            vec!["b", "c"],
        ),
        ("limit=0", vec![]),
        ("nobody_knows=this", vec!["c", "b", "a", "csi"]),
    ] {
        assert_eq!(
            names(&lab.get(&format!("/v3/p/volumes?{query}")).await),
            found,
            "{query}"
        );
    }
    let part = lab.at("3.34", "GET", "/v3/p/volumes?name~=s", "").await;
    assert_eq!(names(&part), ["csi"]);
    let counted = lab
        .at("3.45", "GET", "/v3/p/volumes?limit=1&with_count=true", "")
        .await;
    assert_eq!(counted.body["count"], 4);
    // A summary names; details tell.
    let first = &counted.body["volumes"][0];
    assert_eq!(first.as_object().unwrap().len(), 3);

    let mut next = "/v3/p/volumes/detail?limit=1&sort=name:asc".to_owned();
    let mut seen = Vec::new();
    while !next.is_empty() {
        let page = lab.get(&next).await;
        seen.extend(names(&page).into_iter().map(str::to_owned));
        assert!(seen.len() <= 4, "{seen:?}");
        let href = &page.body["volumes_links"][0]["href"];
        let href = href.as_str().unwrap_or_default();
        assert!(href.is_empty() || page.body["volumes_links"][0]["rel"] == "next");
        next = href.replace("http://cinder.example:8776", "");
    }
    assert_eq!(seen, ["a", "b", "c", "csi"]);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_list_cannot_be_asked() {
    let world = World::new();
    let lab = world.start().await;
    for collection in ["backups", "backups/detail", "volumes", "snapshots/detail"] {
        for query in [
            "limit=-1",
            "limit=x",
            "limit=99999999999",
            "offset=-1",
            "offset=1.5",
            "marker=nobody",
            "sort=nothing",
            "sort=name:sideways",
            "sort=name&sort_key=name",
            "all_tenants=perhaps",
            "with_count=perhaps",
        ] {
            let path = format!("/v3/p/{collection}?{query}");
            lab.get(&path).await.fault(400, "badRequest");
        }
        let path = format!("/v3/p/{collection}?nobody_knows=this");
        lab.at("3.31", "GET", &path, "")
            .await
            .fault(400, "badRequest");
    }
    let empty = lab.get("/v3/p/backups/detail").await;
    assert_eq!(empty.body, json!({"backups": []}));
    lab.stop().await;
}
