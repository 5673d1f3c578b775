//! A pipeline whose sinks hold records of another model: refused, or allowed.

use super::*;

const PIPELINE: &str =
    "version: 1\nname: spaces\nsource: { listing: { path: photos } }\nmodel: { path: model }\nsinks:\n  - SINK: { path: out }\n";

#[test]
fn a_changed_model_is_refused_by_each_folder_unless_the_pipeline_allows_it() {
    for sink in ["jsonl", "parquet"] {
        let folder = lake(5);
        run(folder.path(), &["model", "init", "tiny", "--seed", "4", "--out", "other"], 0);
        let file = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).unwrap();
            name.to_owned()
        };
        let space = |model: &str| {
            let output = run(folder.path(), &["model", "inspect", model, "--json"], 0);
            serde_json::from_slice::<Value>(&output.stdout).unwrap()["space"].as_str().unwrap().to_owned()
        };
        let first = file("first.yaml", PIPELINE.replace("SINK", sink));
        run(folder.path(), &["run", &first], 0);
        // The same model again is no change, and a dry run writes nothing that could be mixed.
        run(folder.path(), &["run", &first], 0);
        let changed = PIPELINE.replace("SINK", sink).replace("path: model", "path: other");
        let refused = run(folder.path(), &["run", &file("second.yaml", changed.clone())], 2);
        for part in [space("model"), space("other"), "out/".into(), "on_space_change: allow".into()] {
            assert!(stderr(&refused).contains(&part), "{sink}: {part}: {}", stderr(&refused));
        }
        run(folder.path(), &["run", "second.yaml", "--dry-run"], 0);
        let allowed = run(folder.path(), &["run", &file("third.yaml", changed.clone() + "on_space_change: allow\n")], 0);
        assert!(stderr(&allowed).contains(&space("other")) && stderr(&allowed).contains("Going on"), "{sink}: {}", stderr(&allowed));
        // Whoever set other preprocessing or scaling has another space, too.
        let scaled = PIPELINE.replace("SINK", sink) + "output: { normalize: l2 }\n";
        let refused = run(folder.path(), &["run", &file("fourth.yaml", scaled)], 2);
        assert!(stderr(&refused).contains("normalize l2"), "{}", stderr(&refused));
        let misspelt = run(folder.path(), &["check", &file("fifth.yaml", changed + "on_space_change: alow\ndeadline: tomorrow\n")], 2);
        assert!(stderr(&misspelt).contains("did you mean `allow`?"), "{}", stderr(&misspelt));
        assert!(
            stderr(&misspelt).contains("expected a point in time like 2026-12-01T06:00:00Z, found `tomorrow`"),
            "{}",
            stderr(&misspelt)
        );
    }
}
