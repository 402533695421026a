// Talks to the wallet in this browser (EIP-1193, found by EIP-6963). No library: the server encodes every call and writes
// every document; this hands them to the wallet and brings back what it answers.
//
//   interchainWallet.available()                          is there a wallet in this browser
//   interchainWallet.connect(chainIdHex, rpcUrl)          -> address, on the right chain (which is added with rpcUrl)
//   interchainWallet.signText(text, address)              -> signature (EIP-191)
//   interchainWallet.signTypedData(document, address)     -> signature (EIP-712)
//   interchainWallet.send({to, data, value}, address)     -> hash of the transaction
//   interchainWallet.mined(hash)                          -> its receipt, once it is in a block
//   interchainWallet.words(error)                         -> what to tell the person
//
// A form with data-wallet-flow does all of it by itself (docs/architecture.md, "Browser wallets"):
//
//   <form data-wallet-flow data-chain-id="0x1" data-rpc-url="" method="post" action="...">
//     ... <button data-wallet-start hidden>Pay</button> <p data-wallet-said role="status"></p>
//
// It posts its fields and `address`; the server answers with the next thing to do, as JSON:
//   {"do": "sign_text", "text": ..., "keep": "signature", "explain": ...}
//   {"do": "sign_typed_data", "document": ..., "keep": ..., "explain": ...}
//   {"do": "send", "call": {to, data, value}, "keep": "hash", "wait": true, "explain": ...}
//   {"do": "go", "url": ...}        or an error of ours: {"message": ...}
// What the wallet answers is added to the fields under `keep`, together with the answer's own `fields` ({name: value}), and the
// form is posted again.
"use strict";

window.interchainWallet = (() => {
  const announced = new Map();
  window.addEventListener("eip6963:announceProvider", (event) => {
    announced.set(event.detail.info.uuid, { name: event.detail.info.name, provider: event.detail.provider });
    document.dispatchEvent(new CustomEvent("interchain:wallets"));
  });
  window.dispatchEvent(new Event("eip6963:requestProvider"));

  let chosen = "";
  const found = () => {
    const all = [...announced.entries()].map(([id, wallet]) => ({ id, ...wallet }));
    if (window.ethereum && !all.some((wallet) => wallet.provider === window.ethereum)) {
      all.push({ id: "window", name: "Wallet in this browser", provider: window.ethereum });
    }
    return all;
  };
  const provider = () => {
    const all = found();
    const wallet = all.find((one) => one.id === chosen) || all[0];
    if (!wallet) throw new Error("no wallet");
    return wallet.provider;
  };
  const ask = (method, params) => provider().request({ method, params });
  const hex = (text) => "0x" + Array.from(new TextEncoder().encode(text), (byte) => byte.toString(16).padStart(2, "0")).join("");

  async function toChain(chainId, rpcUrl) {
    const now = await ask("eth_chainId");
    if (BigInt(now) === BigInt(chainId)) return;
    try {
      await ask("wallet_switchEthereumChain", [{ chainId }]);
    } catch (error) {
      if (error.code !== 4902 || !rpcUrl) throw error;
      const nativeCurrency = { name: "Ether", symbol: "ETH", decimals: 18 };
      await ask("wallet_addEthereumChain", [{ chainId, chainName: "Interchain", rpcUrls: [rpcUrl], nativeCurrency }]);
    }
    if (BigInt(await ask("eth_chainId")) !== BigInt(chainId)) throw Object.assign(new Error("chain"), { code: "chain" });
  }

  return {
    available: () => found().length > 0,
    wallets: () => found().map(({ id, name }) => ({ id, name })),
    choose: (id) => { chosen = id; },
    async connect(chainId, rpcUrl) {
      const [address] = await ask("eth_requestAccounts", []);
      if (chainId) await toChain(chainId, rpcUrl);
      return address;
    },
    signText: (text, address) => ask("personal_sign", [hex(text), address]),
    signTypedData: (document_, address) => ask("eth_signTypedData_v4", [address, JSON.stringify(document_)]),
    send: ({ to, data, value }, address) => ask("eth_sendTransaction", [{ from: address, to, data, value: value || "0x0" }]),
    async mined(hash, seconds = 300) {
      for (let waited = 0; waited < seconds; waited += 1) {
        const receipt = await ask("eth_getTransactionReceipt", [hash]);
        if (receipt && receipt.status === "0x0") throw Object.assign(new Error("refused"), { code: "refused" });
        if (receipt) return receipt;
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
      throw Object.assign(new Error("late"), { code: "late" });
    },
    words(error) {
      const known = {
        4001: "You did not agree in the wallet. Nothing was sent.",
        4100: "The wallet does not share this account. Allow this page in the wallet, then try again.",
        "-32002": "The wallet already waits for your answer. Open it.",
        chain: "The wallet is on another network. Switch it to the one named on this page, then try again.",
        refused: "The contract refused the transaction; nothing but its gas was spent. Reload the page and try again.",
        late: "The transaction is not in a block yet. This page shows it as soon as it is.",
        said: error && error.message,
      };
      return (error && known[error.code]) || "The wallet could not do this. Open it, see what it says, then try again.";
    },
  };
})();

(() => {
  const wallet = window.interchainWallet;
  const STEPS_AT_MOST = 8;

  async function answer(form, fields) {
    const body = new FormData(form);
    for (const [name, value] of Object.entries(fields)) body.set(name, value);
    const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
    const said = await response.json().catch(() => ({}));
    if (!response.ok || !said.do) {
      const message = said.message || "The portal did not answer as expected. Reload the page and try again.";
      throw Object.assign(new Error(message), { code: "said" });
    }
    return said;
  }

  async function follow(form, say) {
    say("Open your wallet and connect it.");
    const fields = { address: await wallet.connect(form.dataset.chainId, form.dataset.rpcUrl) };
    for (let step = 0; step < STEPS_AT_MOST; step += 1) {
      const next = await answer(form, fields);
      if (next.explain) say(next.explain);
      Object.assign(fields, next.fields);
      if (next.do === "go") { window.location.assign(next.url); return; }
      if (next.do === "sign_text") fields[next.keep] = await wallet.signText(next.text, fields.address);
      if (next.do === "sign_typed_data") fields[next.keep] = await wallet.signTypedData(next.document, fields.address);
      if (next.do === "send") {
        fields[next.keep] = await wallet.send(next.call, fields.address);
        if (next.wait) {
          say("Sent. Waiting for the network to take it into a block.");
          await wallet.mined(fields[next.keep]);
        }
      }
    }
    throw new Error("too many steps");
  }

  function offerChoice(form) {
    const all = wallet.wallets();
    const select = form.querySelector("[data-wallet-choice]");
    if (!select || all.length < 2) return;
    select.replaceChildren(...all.map(({ id, name }) => new Option(name, id)));
    select.closest("[hidden]")?.removeAttribute("hidden");
    select.addEventListener("change", () => wallet.choose(select.value));
  }

  function arm(form) {
    const button = form.querySelector("[data-wallet-start]");
    if (!button || !wallet.available()) return;
    offerChoice(form);
    button.hidden = false;
    for (const absent of document.querySelectorAll("[data-wallet-absent]")) absent.hidden = true;
    if (form.dataset.armed) return;
    form.dataset.armed = "yes";
    const said = form.querySelector("[data-wallet-said]");
    const say = (text) => { if (said) said.textContent = text; };
    const start = async () => {
      if (!form.reportValidity()) return;
      button.disabled = true;
      try {
        await follow(form, say);
      } catch (error) {
        say(wallet.words(error));
        button.disabled = false;
      }
    };
    button.addEventListener("click", start);
    form.addEventListener("submit", (event) => {
      if (event.submitter && event.submitter !== button) return;  // another button of the form sends it as it is
      event.preventDefault();
      start();
    });
  }

  const armAll = () => { for (const form of document.querySelectorAll("form[data-wallet-flow]")) arm(form); };
  document.addEventListener("interchain:wallets", armAll);
  document.addEventListener("htmx:load", armAll);
  armAll();
})();
