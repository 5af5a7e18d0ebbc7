/** Work that comes one by one, done together: what arrives while a batch is under way makes up the next. */

/** Never throws, never waits. False where `limit` are waiting already: then it is not taken. */
export type Batch<Item> = (item: Item) => boolean;

/** `onFailure` hears what a batch failed with; its items are gone. */
export function createBatch<Item>(options: {
  readonly limit: number;
  run(items: readonly Item[]): Promise<void>;
  onFailure(error: unknown): void;
}): Batch<Item> {
  let waiting: Item[] = [];
  let isRunning = false;

  async function runAll(): Promise<void> {
    isRunning = true;
    while (waiting.length > 0) {
      const items = waiting;
      waiting = [];
      await options.run(items).catch(options.onFailure);
    }
    isRunning = false;
  }

  return (item) => {
    if (waiting.length >= options.limit) return false;
    waiting.push(item);
    if (!isRunning) void runAll();
    return true;
  };
}
