/** Tells who listens what happens, now and then: a state at once, the number of entries seldom. */

const QUIET = 10_000; // ms between two numbers

export class Speaker {
  #element;
  #clock;
  #state = "";
  #told = 0; // entries
  #quietUntil = 0;

  constructor(element, clock = performance) {
    this.#element = element;
    this.#clock = clock;
  }

  /** Say what is new, where something is. */
  say(watch) {
    const now = this.#clock.now();
    const { name, text } = watch.state;
    const entries = watch.arrived - this.#told;
    if (name !== this.#state) this.#element.textContent = text;
    else if (entries > 0 && now >= this.#quietUntil)
      this.#element.textContent = entries === 1 ? "1 new entry" : `${entries} new entries`;
    else if (entries >= 0) return;
    this.#state = name;
    this.#told = watch.arrived;
    this.#quietUntil = now + QUIET;
  }
}
