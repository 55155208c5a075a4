//! What has to be called before another thread exists, in a process of its own that has only one. (Test harnesses
//! start threads; this is a `main`.)

use peftbench_kernels::{available_threads, keep_freed_memory, set_threads, threads};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // Runners ask what tests there are.
    if arguments.iter().any(|a| a == "--list") {
        if !arguments.iter().any(|a| a == "--ignored") {
            println!("first_in_main: test");
        }
        return;
    }

    let gnu = cfg!(all(target_os = "linux", target_env = "gnu"));
    assert_eq!(keep_freed_memory(), gnu, "freed memory is kept with glibc");

    let most = available_threads();
    let before = std::env::var_os("RAYON_NUM_THREADS");
    for refused in [0, most + 1, usize::MAX] {
        let error = set_threads(refused).expect_err("accepted").to_string();
        for number in [refused, most] {
            assert!(error.contains(&number.to_string()), "{refused}: {error}");
        }
        assert_eq!(std::env::var_os("RAYON_NUM_THREADS"), before, "{refused}");
    }
    set_threads(most).expect("as many as there are");
    assert_eq!(threads(), most);
    for name in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        let told = std::env::var(name).ok();
        if cfg!(any(target_os = "linux", windows)) {
            assert_eq!(told, Some(most.to_string()), "candle reads {name}");
        }
    }
    set_threads(most).expect("the same number again");
    if most > 1 {
        let error = set_threads(1).expect_err("accepted").to_string();
        assert!(error.contains("in use already"), "{error}");
    }

    if cfg!(target_os = "linux") {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || stopped.recv());
        let error = set_threads(most).expect_err("accepted").to_string();
        assert!(error.contains("other threads"), "{error}");
        assert!(!keep_freed_memory(), "beside another thread");
        drop(stop);
        let _ = other.join();
    }
}
