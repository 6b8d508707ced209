/** Work shared out over several hands. Knows nothing of the page. */

/**
 * Do `work(hand, item)` for all items, whichever hand is free taking the next, and `use(answer, item)` in their order.
 * Hands never run far ahead of what was used, as answers take memory. Once one fails, no hand takes another item, and the
 * failure is thrown when all have stopped.
 */
export async function spread(hands, items, work, use) {
  const answers = new Map();
  let next = 0, used = 0, failure = null, wake = () => {};
  let room = new Promise((resolve) => (wake = resolve));
  await Promise.all(hands.map(async (hand) => {
    try {
      while (next < items.length && !failure) {
        const index = next++;
        answers.set(index, await work(hand, items[index]));
        for (; answers.has(used) && !failure; used++) {
          use(answers.get(used), items[used]);
          answers.delete(used);
          wake();
          room = new Promise((resolve) => (wake = resolve));
        }
        while (next - used > 2 * hands.length && !failure) await room;
      }
    } catch (error) {
      failure ??= { error };
      wake();
    }
  }));
  if (failure) throw failure.error;
}
