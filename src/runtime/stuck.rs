//! Cores that do nothing any more. Their connections stand and their node beats, for both are the control plane's: nobody else would notice, and
//! their channels would be silent for ever. So the node ends, and its seats are given to others as after any death.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::letters::{Letter, LetterBox};
use crate::limits::CORE_SILENCES_MAX;

/// Between two questions, and how long an answer may take.
const ASK: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 1_000 });

/// Returns when a core has not answered so often in a row, and says so. It is asked one by one, so that a process that was stopped as a whole
/// finds itself well.
pub(super) async fn watch(cores: Vec<LetterBox>) -> String {
    let mut silences = vec![0; cores.len()];
    loop {
        sleep(ASK).await;
        for (core, letter_box) in cores.iter().enumerate() {
            let answers = timeout(ASK, answers(letter_box)).await.unwrap_or(false);
            silences[core] = if answers { 0 } else { silences[core] + 1 };
            if silences[core] >= CORE_SILENCES_MAX {
                return format!("core {core} does nothing any more: its work is for others");
            }
        }
    }
}

async fn answers(letter_box: &LetterBox) -> bool {
    let (answer, answered) = oneshot::channel();
    letter_box.deliver(Letter::Ping(answer)).await && answered.await.is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::Receiver;

    use super::*;
    use crate::runtime::bell::Bell;
    use crate::runtime::uring::wake_fd;

    fn core() -> (LetterBox, Receiver<Letter>) {
        LetterBox::new(Arc::new(Bell::new(wake_fd().expect("an eventfd"))))
    }

    /// Answers letters until `asked` of them came.
    fn works(letters: Receiver<Letter>, asked: u32) {
        std::thread::spawn(move || {
            for letter in letters.iter().take(asked as usize) {
                let Letter::Ping(answer) = letter else { panic!("nothing else is sent") };
                answer.send(()).expect("it is waited for");
            }
            // It lives on, and does nothing.
            std::thread::park();
            drop(letters);
        });
    }

    #[tokio::test]
    async fn a_core_that_does_nothing_is_found_and_one_that_works_is_not() {
        let ((good, of_good), (bad, of_bad)) = (core(), core());
        works(of_good, u32::MAX);
        works(of_bad, 2);
        let said = timeout(Duration::from_secs(60), watch(vec![good, bad])).await;
        assert_eq!(said.as_deref(), Ok("core 1 does nothing any more: its work is for others"));
        let (good, of_good) = core();
        works(of_good, u32::MAX);
        assert!(timeout(ASK * 4, watch(vec![good])).await.is_err(), "nothing is wrong with it");
    }
}
