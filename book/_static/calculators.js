// The calculators of the page calculators.md: formulas as pure functions, then their forms.
// Units are bytes, seconds, elements and FLOP. Nothing is requested from anywhere.
"use strict";

const calculators = (() => {
  const GRADIENT_BYTES = {fp32: 4, fp16: 2, bf16: 2};
  // Peak rates of one device, relative to fp32: an RTX 3090, as on the page "A cost model".
  const PEAK = {fp32: 1, fp16: 2, bf16: 2};
  const RANKS = 2;
  const STATE_BYTES = {adam: 8, sgd: 4}; // two states or one (momentum), always in fp32
  const DEFAULT_BUCKET = 500000000; // elements

  // The images per step from which two ranks are faster than one device: break_even_batch in
  // dsstudy/analysis/cost_model/model.py.
  function breakEven({parameters, flops, bandwidth, rate, rest, factor, constant, one, ranks}) {
    const share = PEAK[one] / PEAK[ranks] / RANKS; // of the arithmetic's time, for each rank
    const sent = 2 * (RANKS - 1) / RANKS * GRADIENT_BYTES[ranks]; // by a ring, per parameter
    const transfer = sent * parameters / bandwidth + constant;
    const added = Math.max(0, factor * rest - rest + transfer);
    const saved = Math.max(0, (1 - share) * flops / rate); // per image
    return {images: saved > 0 ? added / saved : Infinity, added, saved, transfer};
  }

  function sizes({precision, optimizer}) {
    const half = precision !== "fp32";
    const states = STATE_BYTES[optimizer];
    return {weight: half ? 2 : 4, gradient: half ? 2 : 4, copy: 4, states, half};
  }

  // Bytes of weights, gradients and states on a rank, as ZeRO's paper counts them: zero_theory in
  // dsstudy/analysis/capacity.py, which knows fp32 and Adam.
  function paperBytes({parameters, stage, ranks, ...kind}) {
    const {weight, gradient, copy, states, half} = sizes(kind);
    const divided = (bytes, from) => (stage >= from ? bytes / ranks : bytes);
    const optimizer = states + (half ? copy : 0);
    return parameters * (divided(optimizer, 1) + divided(gradient, 2) + divided(weight, 3));
  }

  // Bytes that DeepSpeed 0.19.8 holds at the end of a backward pass. From stage 1 on it keeps an
  // fp32 copy of a rank's weights, in fp32 too; stage 1 has freed the other ranks' gradients by
  // then; stage 3 keeps its bucket.
  function heldBytes({parameters, stage, ranks, bucket, ...kind}) {
    if (stage === 0) return paperBytes({parameters, stage, ranks, ...kind});
    const {weight, gradient, copy, states} = sizes(kind);
    const own = (copy + gradient + states) / ranks;
    if (stage < 3) return parameters * (weight + own);
    return parameters * (weight / ranks + own) + bucket * gradient;
  }

  // The same, with the bucket that is there for a time: at stages 1 and 2 during the pass, at stage
  // 0 at its end, where the gradients are copied, 500 million at a time (engine.py, allreduce).
  function passBytes({bucket, ...given}) {
    const filled = [Math.min(given.parameters, DEFAULT_BUCKET), bucket, bucket, 0][given.stage];
    return heldBytes({bucket, ...given}) + filled * sizes(given).gradient;
  }

  // The ds_config.json of a trial: deepspeed_config in dsstudy/training/loops/deepspeed.py.
  // Names and defaults are those of a trial's parameters.
  function deepspeedConfig(trial) {
    const {optimizer, learning_rate: rate, weight_decay, zero_stage: stage} = trial;
    const adam = optimizer === "adam";
    const own = adam
      ? {betas: [trial.beta1, trial.beta2], eps: 1e-8, adam_w_mode: trial.decoupled_weight_decay}
      : {momentum: trial.momentum};
    const zero = {stage};
    const size = trial.bucket_size;
    if (stage > 0) Object.assign(zero, {reduce_bucket_size: size, allgather_bucket_size: size});
    if (stage === 3) {
      zero.stage3_prefetch_bucket_size = Math.floor(size / 10);
      zero.stage3_max_live_parameters = zero.stage3_max_reuse_distance = 2 * size;
    }
    const config = {
      train_batch_size: trial.batch_size,
      optimizer: {type: adam ? "Adam" : "SGD", params: {...own, lr: rate, weight_decay}},
      gradient_clipping: trial.gradient_clipping === "none" ? 0 : trial.gradient_clipping,
      zero_optimization: zero,
      zero_allow_untested_optimizer: true,
      fp16: {
        enabled: trial.precision === "fp16",
        loss_scale: 0,
        initial_scale_power: 15,
        loss_scale_window: 500,
        hysteresis: 2,
        min_loss_scale: 1,
      },
      bf16: {enabled: trial.precision === "bf16"},
      steps_per_print: 2 ** 31,
    };
    if (trial.scheduler === "warmup") {
      const params = {warmup_min_lr: 0, warmup_max_lr: rate, warmup_num_steps: trial.warmup_steps};
      config.scheduler = {type: "WarmupLR", params};
    }
    return config;
  }

  // ---- The forms ----

  const figures = (value, most) => value.toLocaleString("en", {maximumSignificantDigits: most});
  const milliseconds = (seconds) => `${figures(1e3 * seconds, 3)} ms`;

  function bytesText(bytes) {
    const [unit, name] = bytes < 1e9 ? [1e6, "MB"] : [1e9, "GB"];
    const value = bytes / unit;
    return `${value.toLocaleString("en", {maximumFractionDigits: value < 100 ? 1 : 0})} ${name}`;
  }

  function breakEvenText(given) {
    const {images, added, saved, transfer} = breakEven(given);
    const detail = `Two devices add ${milliseconds(added)} to a step (exchange of gradients: `
      + `${milliseconds(transfer)}) and save ${milliseconds(saved)} for each image.`;
    if (images === Infinity) return `A second device never pays. ${detail}`;
    if (images <= 1) return `A second device pays at every batch size. ${detail}`;
    const from = images < 100 ? Math.ceil(images) : figures(images, 2);
    return `A second device pays from ${from} images per step on, over both. ${detail}`;
  }

  const forms = {
    "break-even"(form, value) {
      const given = {
        parameters: 1e6 * value("parameters"),
        flops: 1e9 * value("gflop"),
        bandwidth: 1e9 * value("bandwidth"),
        rate: 1e12 * value("rate"),
        rest: 1e-3 * value("rest"),
        factor: value("factor"),
        constant: 0,
        one: value("one"),
        ranks: value("ranks"),
      };
      return breakEvenText(given);
    },

    memory(form, value) {
      const given = {
        parameters: 1e6 * value("parameters"),
        ranks: value("processes"),
        bucket: value("bucket"),
        precision: value("precision"),
        optimizer: value("optimizer"),
      };
      const stages = [0, 1, 2, 3].map((stage) => ({...given, stage}));
      const passes = stages.map(passBytes);
      form.querySelectorAll("tbody tr").forEach((row, stage) => {
        const cells = [paperBytes(stages[stage]), heldBytes(stages[stage]), passes[stage]];
        cells.forEach((bytes, place) => { row.cells[place + 1].textContent = bytesText(bytes); });
      });
      const least = passes.indexOf(Math.min(...passes));
      const which = least ? `Stage ${least}` : "Stage 0, which is no ZeRO,";
      const beside = least ? `, against ${bytesText(passes[0])} at stage 0` : "";
      return `${which} needs least: ${bytesText(passes[least])} on each rank${beside}.`;
    },

    config(form, value) {
      const trial = {};
      for (const field of form.elements) if (field.name) trial[field.name] = value(field.name);
      const adam = trial.optimizer === "adam";
      for (const name of ["beta1", "beta2", "decoupled_weight_decay"]) form.elements[name].disabled = !adam;
      form.elements.momentum.disabled = adam;
      form.elements.bucket_size.disabled = trial.zero_stage === 0;
      form.elements.warmup_steps.disabled = trial.scheduler !== "warmup";
      if (trial.batch_size % trial.processes) {
        throw new RangeError("The global batch size must be a multiple of the ranks.");
      }
      const each = trial.batch_size / trial.processes;
      form.querySelector("pre").textContent = JSON.stringify(deepspeedConfig(trial), null, 2);
      const images = each === 1 ? "1 image" : `${each} images`;
      return `Feed each of ${trial.processes} rank${trial.processes > 1 ? "s" : ""} ${images} a step: `
        + `DataLoader(..., batch_size=${each}).`
        + (trial.scheduler === "cyclic" ? " CyclicLR is not in the file: hand it to deepspeed.initialize." : "")
        + (trial.precision === "fp16" && trial.zero_stage === 0 ? " Caution: fp16 at stage 0 hardly learns, see the traps." : "");
    },
  };

  // The value of a field: a number, true or false, or a word. "none" is a word in a number's place.
  function readField(field) {
    if (field.type === "checkbox") return field.checked;
    if (field.tagName === "SELECT") return "number" in field.dataset ? Number(field.value) : field.value;
    if (field.value === "" && field.dataset.empty && field.validity.valid) return field.dataset.empty;
    const number = field.valueAsNumber;
    if (!field.disabled && (Number.isNaN(number) || !field.validity.valid)) {
      throw new RangeError(`${field.labels[0].textContent.trim()}: ${field.title}.`);
    }
    return number;
  }

  function renew(form) {
    const output = form.querySelector("output");
    let text;
    try {
      text = forms[form.dataset.calculator](form, (name) => readField(form.elements[name]));
      form.classList.remove("refused");
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      text = error.message;
      form.classList.add("refused");
    }
    if (output.textContent !== text) output.textContent = text;
  }

  async function copy(form) {
    const block = form.querySelector("pre");
    const said = form.querySelector(".copied");
    try {
      await navigator.clipboard.writeText(block.textContent);
      said.textContent = "Copied.";
    } catch { // a page opened as a file may not write to the clipboard
      getSelection().selectAllChildren(block);
      said.textContent = document.execCommand("copy") ? "Copied." : "Selected: press Ctrl+C.";
    }
  }

  function start() {
    for (const form of document.querySelectorAll("form[data-calculator]")) {
      form.addEventListener("submit", (event) => event.preventDefault());
      form.addEventListener("input", () => {
        renew(form);
        const said = form.querySelector(".copied");
        if (said) said.textContent = "";
      });
      form.querySelector("button")?.addEventListener("click", () => copy(form));
      renew(form);
    }
  }

  return {breakEven, paperBytes, heldBytes, passBytes, deepspeedConfig, start, DEFAULT_BUCKET};
})();

if (typeof module !== "undefined") module.exports = calculators;
else if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", calculators.start);
else calculators.start();
