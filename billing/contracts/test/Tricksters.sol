// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

import {TokenSale} from "../src/TokenSale.sol";

/// @dev A stablecoin that keeps a hundredth of every transfer.
contract FeeDollar is ERC20("Fee Dollar", "FUSD") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }

    function _update(address from, address to, uint256 amount) internal override {
        uint256 fee = from == address(0) ? 0 : amount / 100;
        super._update(from, to, amount - fee);
        if (fee != 0) {
            super._update(from, address(this), fee);
        }
    }
}

/// @dev A coin with whatever decimals.
contract OddCoin is ERC20("Odd Coin", "ODD") {
    uint8 private immutable _decimals;

    constructor(uint8 decimals_) {
        _decimals = decimals_;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }
}

/// @dev Takes no ether.
contract Refuser {
    function buy(TokenSale sale, uint256 minNtc) external payable {
        sale.buyWithEther{value: msg.value}(minNtc, 0);
    }
}

/// @dev Buys again when it gets its change, or as the treasury when it gets the proceeds.
contract Reenterer {
    bytes public answer;

    function buy(TokenSale sale, uint256 minNtc) external payable {
        sale.buyWithEther{value: msg.value}(minNtc, 0);
    }

    receive() external payable {
        (, answer) = msg.sender.call{value: 1}(abi.encodeCall(TokenSale.buyWithEther, (0, 0)));
    }
}
