"""Ethereum: the only folder that imports web3 or eth_account. Leaving the library is rewriting this folder."""
