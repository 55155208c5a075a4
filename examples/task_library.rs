//! Many tasks over one backbone: `cargo run --release --example task_library -- FOLDER` where FOLDER holds a folder of
//! saved weights per task (`peftbench train` prints where it saved them).
use std::{path::Path, sync::Arc, thread};

use peftbench::{
    prepare::Files,
    task_library::{Row, TaskLibrary, task_folders},
};

fn main() -> anyhow::Result<()> {
    let folder = std::env::args()
        .nth(1)
        .unwrap_or("reports/out/sst2/weights".into());
    let backbone = Files::new(false)?
        .backbone("minilm", &Default::default())?
        .load()?;
    let library = Arc::new(TaskLibrary::new(backbone));
    for (name, folder) in task_folders(Path::new(&folder))? {
        library.add(&name, &folder)?;
    }
    let text = "A thoughtful film with a heart.".to_owned();
    let row = |task| Row {
        task,
        text: text.clone(),
        pair: None,
        tokens: None,
    };
    // Rows of all tasks share one forward pass; another thread may add and drop tasks meanwhile.
    let rows: Vec<Row> = library.names().into_iter().map(row).collect();
    let elsewhere = Arc::clone(&library);
    let dropping = thread::spawn(move || elsewhere.remove("a task that is done"));
    for (row, answer) in rows.iter().zip(library.predict(&rows)) {
        println!("{}: {}", row.task, answer?.prediction.cells().0);
    }
    let _was_there = dropping.join();
    Ok(())
}
