// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AggregatorV3Interface} from "./interfaces/AggregatorV3Interface.sol";

/// @dev What an answer must keep to before it is believed. The bounds are in the feed's own units.
struct FeedLimits {
    uint64 maxAge; // seconds
    uint8 decimals;
    uint128 lowest;
    uint128 highest;
}

/**
 * @dev Reads a price in dollars and refuses every answer that is late, unfinished, out of bounds or in other units.
 *
 * For Ethereum itself: on a rollup the sequencer's own feed would have to be asked first.
 */
library PriceFeed {
    /// @dev The limits make no sense, or the feed's decimals are not the expected ones.
    error PriceFeedInvalidLimits();

    /// @dev The feed counts in other units than it did.
    error PriceFeedWrongDecimals(uint8 decimals, uint8 expected);

    /// @dev The feed's round is not answered yet, or says it was answered in the future.
    error PriceFeedIncomplete(uint80 roundId, uint256 updatedAt);

    /// @dev The answer is older than allowed.
    error PriceFeedStale(uint256 updatedAt, uint64 maxAge);

    /// @dev The answer is not between the lowest and the highest believed.
    error PriceFeedOutOfBounds(int256 answer, uint128 lowest, uint128 highest);

    uint8 internal constant MAX_DECIMALS = 18;

    /// @dev Returns the feed's answer, in its own units, and when it was given. Reverts rather than return a doubtful one.
    function read(AggregatorV3Interface feed, FeedLimits memory limits)
        internal
        view
        returns (uint256 price, uint256 updatedAt)
    {
        uint8 decimals = feed.decimals();
        if (decimals != limits.decimals) {
            revert PriceFeedWrongDecimals(decimals, limits.decimals);
        }
        uint80 roundId;
        uint80 answeredInRound;
        int256 answer;
        (roundId, answer,, updatedAt, answeredInRound) = feed.latestRoundData();
        if (updatedAt == 0 || updatedAt > block.timestamp || answeredInRound < roundId) {
            revert PriceFeedIncomplete(roundId, updatedAt);
        }
        if (block.timestamp - updatedAt > limits.maxAge) {
            revert PriceFeedStale(updatedAt, limits.maxAge);
        }
        if (answer < int256(uint256(limits.lowest)) || answer > int256(uint256(limits.highest))) {
            revert PriceFeedOutOfBounds(answer, limits.lowest, limits.highest);
        }
        // forge-lint: disable-next-line(unsafe-typecast)
        price = uint256(answer); // positive: not below `lowest`
    }

    /// @dev Refuses limits under which {read} could return 0 or never return, and a feed in other units.
    function check(AggregatorV3Interface feed, FeedLimits memory limits) internal view {
        if (
            limits.maxAge == 0 || limits.lowest == 0 || limits.lowest > limits.highest || limits.decimals > MAX_DECIMALS
        ) {
            revert PriceFeedInvalidLimits();
        }
        uint8 decimals = feed.decimals();
        if (decimals != limits.decimals) {
            revert PriceFeedWrongDecimals(decimals, limits.decimals);
        }
    }
}
