// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {AggregatorV3Interface} from "./interfaces/AggregatorV3Interface.sol";
import {ITokenSale} from "./interfaces/ITokenSale.sol";
import {FeedLimits, PriceFeed} from "./PriceFeed.sol";

/**
 * @dev Keeps the founders' 5,000,000 NTC until NTC's price is ten times round 3's, or three years after the last round
 * of the sale closed. Source: whitepaper §4.
 *
 * The price is an average over at least {WINDOW} since round 3 opened. Anyone may {observe} the feed; the time between
 * two observations counts with the lower of the two prices. Observations are at least {MIN_SPACING} apart, each is a newer answer
 * of the feed, and a gap longer than {MAX_GAP} begins the window anew, so that neither one reading nor a silence carries it.
 *
 * There are no roles. Feed, limits, sale and beneficiary never change, so nobody can shorten the wait. If an earlier
 * round was dearer than round 3, ten times the dearest round is needed: a cheap last round opens nothing.
 */
contract FounderVault {
    using SafeERC20 for IERC20;
    using PriceFeed for AggregatorV3Interface;

    /// @dev `weighted` is the sum of price × seconds since the window began, in nano-dollar seconds.
    struct Observation {
        uint64 observedAt;
        uint64 priceNanoUsd;
        uint128 weighted;
    }

    event Observed(uint64 indexed observedAt, uint64 priceNanoUsd, uint256 averageNanoUsd);
    event Released(address indexed beneficiary, uint256 amount, bool byPrice);

    error FounderVaultNotFunded(uint256 balance);
    error FounderVaultInvalidAddress();

    /// @dev Round 3 is not open yet, so there is no price to compare with.
    error FounderVaultTooEarly();

    /// @dev The last observation is not long enough ago; the next is possible at `from`.
    error FounderVaultTooSoon(uint256 from);

    /// @dev The feed has not answered anew since the last observation.
    error FounderVaultSameReading(uint256 updatedAt);

    /// @dev Neither condition is met.
    error FounderVaultLocked(uint256 averageNanoUsd, uint256 targetNanoUsd, uint256 unlocksAt);

    error FounderVaultNothingToRelease();

    uint256 public constant PRICE_FACTOR = 10;

    /// @dev Three years with a leap day, so that it is never less than three years of the calendar.
    uint256 public constant LOCK = 1096 days;

    uint256 public constant WINDOW = 30 days;
    uint256 public constant MIN_SPACING = 8 hours;
    uint256 public constant MAX_GAP = 2 days;

    /// @dev Observations kept: more than fit into the window at {MIN_SPACING}.
    uint256 private constant KEPT = 96;

    uint256 private constant FUNDS = 5_000_000 * 10 ** 9;
    uint8 private constant LAST_ROUND = 3;
    uint256 private constant USD = 10 ** 9; // nano-dollars

    IERC20 public immutable ntc;
    address public immutable beneficiary;
    ITokenSale public immutable sale;
    AggregatorV3Interface public immutable ntcFeed;

    /// @dev Base units that went to the beneficiary.
    uint256 public released;

    FeedLimits private _limits;
    Observation[KEPT] private _observations;
    uint256 private _count; // in the unbroken window
    uint256 private _newest; // place in the ring
    uint256 private _readingAt; // when the feed gave the newest observation's answer

    constructor(
        IERC20 ntc_,
        address beneficiary_,
        ITokenSale sale_,
        AggregatorV3Interface ntcFeed_,
        FeedLimits memory limits
    ) {
        if (ntc_.balanceOf(address(this)) < FUNDS) {
            revert FounderVaultNotFunded(ntc_.balanceOf(address(this)));
        }
        if (beneficiary_ == address(0) || beneficiary_ == address(this) || address(sale_).code.length == 0) {
            revert FounderVaultInvalidAddress();
        }
        ntcFeed_.check(limits);
        ntc = ntc_;
        beneficiary = beneficiary_;
        sale = sale_;
        ntcFeed = ntcFeed_;
        _limits = limits;
    }

    /// @dev What the feed's answers must keep to.
    function feedLimits() external view returns (FeedLimits memory) {
        return _limits;
    }

    /// @dev The newest observation: seconds since 1970 and nano-dollars for one NTC; zeros when there is none.
    function lastObservation() external view returns (uint64 observedAt, uint64 priceNanoUsd) {
        Observation storage newest = _observations[_newest];
        return (newest.observedAt, newest.priceNanoUsd);
    }

    /// @dev When the unbroken row of observations that is kept began; 0 without any.
    function observedSince() external view returns (uint64) {
        return _count == 0 ? 0 : _kept(_count - 1).observedAt;
    }

    /// @dev The average that opens the vault, in nano-dollars for one NTC; 0 while round 3 is not opened.
    function priceTarget() public view returns (uint256) {
        if (sale.round(LAST_ROUND).openedAt == 0) {
            return 0;
        }
        uint256 dearest = 0;
        for (uint8 number = 1; number <= LAST_ROUND; ++number) {
            dearest = Math.max(dearest, sale.round(number).priceNanoUsd);
        }
        return PRICE_FACTOR * dearest;
    }

    /// @dev When time alone opens the vault, in seconds since 1970; 0 while round 3 is not closed.
    function unlocksAt() public view returns (uint256) {
        uint256 closedAt = sale.round(LAST_ROUND).closedAt;
        return closedAt == 0 ? 0 : closedAt + LOCK;
    }

    /// @dev The average price over the shortest row of newest observations that spans the window, in nano-dollars for
    /// one NTC; 0 when no unbroken row spans it, or the newest is longer ago than {MAX_GAP}.
    function averagePrice() public view returns (uint256) {
        if (_count == 0) {
            return 0;
        }
        Observation storage newest = _kept(0);
        if (block.timestamp - newest.observedAt > MAX_GAP || newest.observedAt - _kept(_count - 1).observedAt < WINDOW)
        {
            return 0;
        }
        uint256 back = WINDOW / MAX_GAP;
        while (newest.observedAt - _kept(back).observedAt < WINDOW) {
            ++back;
        }
        Observation storage first = _kept(back);
        return (newest.weighted - first.weighted) / (newest.observedAt - first.observedAt);
    }

    /// @dev Whether {release} would pay now.
    function isOpen() public view returns (bool) {
        return _openByTime() || _openByPrice();
    }

    /// @dev Notes the feed's price. Anyone may send it. Requirements: round 3 was opened; see the contract's text.
    function observe() external {
        if (sale.round(LAST_ROUND).openedAt == 0) {
            revert FounderVaultTooEarly();
        }
        Observation memory last = _observations[_newest];
        if (block.timestamp < last.observedAt + MIN_SPACING) {
            revert FounderVaultTooSoon(last.observedAt + MIN_SPACING);
        }
        (uint256 answer, uint256 updatedAt) = ntcFeed.read(_limits);
        if (updatedAt <= _readingAt) {
            revert FounderVaultSameReading(updatedAt);
        }
        uint64 price = uint64(Math.min(Math.mulDiv(answer, USD, 10 ** _limits.decimals), type(uint64).max));
        uint256 elapsed = block.timestamp - last.observedAt;
        uint128 weighted = 0;
        if (_count == 0 || elapsed > MAX_GAP) {
            _count = 1;
        } else {
            _count = Math.min(_count + 1, KEPT);
            weighted = last.weighted + uint128(elapsed * Math.min(price, last.priceNanoUsd));
        }
        _newest = (_newest + 1) % KEPT;
        _observations[_newest] = Observation(uint64(block.timestamp), price, weighted);
        _readingAt = updatedAt;
        emit Observed(uint64(block.timestamp), price, averagePrice());
    }

    /// @dev Sends everything to the beneficiary once either condition is met. Anyone may send it.
    function release() external {
        bool byTime = _openByTime();
        if (!byTime && !_openByPrice()) {
            revert FounderVaultLocked(averagePrice(), priceTarget(), unlocksAt());
        }
        uint256 amount = ntc.balanceOf(address(this));
        if (amount == 0) {
            revert FounderVaultNothingToRelease();
        }
        released += amount;
        emit Released(beneficiary, amount, !byTime);
        ntc.safeTransfer(beneficiary, amount);
    }

    function _openByTime() private view returns (bool) {
        uint256 opening = unlocksAt();
        return opening != 0 && block.timestamp >= opening;
    }

    function _openByPrice() private view returns (bool) {
        uint256 target = priceTarget();
        return target != 0 && averagePrice() >= target;
    }

    /// @dev The observation so many before the newest.
    function _kept(uint256 back) private view returns (Observation storage) {
        return _observations[(_newest + KEPT - back) % KEPT];
    }
}
