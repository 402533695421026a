// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AggregatorV3Interface} from "../interfaces/AggregatorV3Interface.sol";

/// @dev A price feed for a local chain that answers what anybody told it last. After {set} the answer is always fresh;
/// {answer} says everything, also what a feed should not.
contract TestFeed is AggregatorV3Interface {
    uint8 public decimals;
    uint80 private _roundId;
    int256 private _price;
    uint256 private _updatedAt; // type(uint256).max: always this block
    uint80 private _answeredInRound;

    constructor(uint8 decimals_, int256 price) {
        decimals = decimals_;
        set(price);
    }

    function set(int256 price) public {
        answer(_roundId + 1, price, type(uint256).max, _roundId + 1);
    }

    function answer(uint80 roundId, int256 price, uint256 updatedAt, uint80 answeredInRound) public {
        (_roundId, _price, _updatedAt, _answeredInRound) = (roundId, price, updatedAt, answeredInRound);
    }

    function setDecimals(uint8 decimals_) external {
        decimals = decimals_;
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        uint256 updatedAt = _updatedAt == type(uint256).max ? block.timestamp : _updatedAt;
        return (_roundId, _price, updatedAt, updatedAt, _answeredInRound);
    }
}
