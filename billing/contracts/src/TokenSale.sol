// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

// Longer than 300 lines: a contract is read, audited and verified as one.

import {
    AccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {AggregatorV3Interface} from "./interfaces/AggregatorV3Interface.sol";
import {ISettlement} from "./interfaces/ISettlement.sol";
import {ITokenSale} from "./interfaces/ITokenSale.sol";
import {FeedLimits, PriceFeed} from "./PriceFeed.sol";

/**
 * @dev Sells 20,000,000 NTC in three rounds of 10, 3 and 7 million, in that order.
 *
 * Staff open a round at a price in dollars that is fixed until it is closed and at most {MAX_PRICE_RISE} times the
 * previous one. Three ways of buying share the round's cap: a stablecoin of one dollar, ether at a price feed's rate,
 * and cards, for which a cashier allocates against a payment's reference, each reference once. What is bought goes to
 * the buyer's address, or into {Settlement} for an account of the portal. Every rounding is in favour of the sale.
 *
 * Proceeds go straight to the treasury; nothing but NTC rests here. NTC leaves by a purchase or an allocation alone: not
 * even the admin can take any out. What a round did not sell moves to the next one only by a logged decision.
 *
 * Roles: the sales manager opens and closes rounds and decides about what is unsold; the cashier allocates, within a
 * daily limit; guardians pause and unpause; the default admin (a timelock) appoints them, and sets limit and treasury.
 */
contract TokenSale is ITokenSale, AccessControlDefaultAdminRules, Pausable, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using PriceFeed for AggregatorV3Interface;

    /// @dev Who may do what, at the beginning.
    struct Cast {
        address treasury;
        address admin;
        address salesManager;
        address cashier;
        address guardian;
    }

    event RoundOpened(uint8 indexed round, uint64 priceNanoUsd, uint256 target);
    event RoundClosed(uint8 indexed round, uint256 sold, uint256 unsold);
    event UnsoldDecided(uint8 indexed round, uint8 decision, uint256 ntc, address indexed by, string reason);
    event CashierLimitChanged(uint256 ntcPerDay);
    event TreasuryChanged(address indexed treasury);

    /// @dev Amounts: `ntc` in base units; `paid` in the stablecoin's base units or in wei, and 0 for cards, whose
    /// payment the reference names. `account` is 0 when the NTC went to the buyer's own address.
    event Bought(
        address indexed buyer,
        bytes32 indexed account,
        uint8 indexed round,
        uint8 asset,
        uint256 ntc,
        uint256 paid,
        bytes32 paymentReference
    );

    /// @dev Deployed before the 20,000,000 NTC were here, or beside a Settlement of another token.
    error TokenSaleNotFunded(uint256 balance);
    error TokenSaleWrongSettlement(address token);
    error TokenSaleInvalidStablecoin(uint8 decimals);
    error TokenSaleInvalidAddress();

    error TokenSaleNoOpenRound();
    error TokenSaleRoundStillOpen(uint8 round);
    error TokenSaleNoFurtherRound();

    /// @dev The price is nothing, or more than {MAX_PRICE_RISE} times the previous one.
    error TokenSaleInvalidPrice(uint64 priceNanoUsd, uint64 highest);

    error TokenSaleNotClosed(uint8 round);
    error TokenSaleAlreadyDecided(uint8 round);
    error TokenSaleNothingUnsold(uint8 round);
    error TokenSaleUnknownDecision(uint8 decision);
    error TokenSaleNoReason();

    /// @dev There is no next round that the unsold NTC could be sold in.
    error TokenSaleCannotCarry(uint8 round);

    error TokenSaleNothingBought();
    error TokenSaleSoldOut(uint256 wanted, uint256 left);

    /// @dev It would cost more than the buyer allowed.
    error TokenSaleTooDear(uint256 cost, uint256 maxCost);

    /// @dev It would give less than the buyer allowed.
    error TokenSaleTooLittle(uint256 ntc, uint256 minNtc);

    /// @dev The treasury received less than the price: a token that takes a fee, or the treasury paying itself.
    error TokenSaleShortPayment(uint256 received, uint256 cost);

    /// @dev The treasury, or a buyer who is owed change, does not take ether.
    error TokenSaleEtherRefused(address to, uint256 amount);

    error TokenSaleNoReference();
    error TokenSaleReferenceUsed(bytes32 paymentReference);
    error TokenSaleNobody();

    /// @dev The cashier's limit for today is used up.
    error TokenSaleCashierLimit(uint256 wanted, uint256 left);

    bytes32 public constant SALES_ROLE = keccak256("SALES_ROLE");
    bytes32 public constant CASHIER_ROLE = keccak256("CASHIER_ROLE");
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");

    /// @dev Seconds between naming a new default admin and the earliest acceptance.
    uint48 public constant ADMIN_TRANSFER_DELAY = 3 days;

    uint8 public constant ROUNDS = 3;
    uint64 public constant MAX_PRICE_RISE = 3;

    /// @dev What may become of a round's unsold NTC: sold in the next round too, or locked here for good.
    uint8 public constant CARRY = 1;
    uint8 public constant LOCK = 2;

    uint8 public constant STABLECOIN = 0;
    uint8 public constant ETHER = 1;
    uint8 public constant CARD = 2;

    uint256 private constant SUPPLY = 20_000_000 * 10 ** 9;
    uint256 private constant NTC = 10 ** 9; // base units
    uint256 private constant USD = 10 ** 9; // nano-dollars

    IERC20 public immutable ntc;
    ISettlement public immutable settlement;
    IERC20Metadata public immutable stablecoin;
    AggregatorV3Interface public immutable etherFeed;
    uint256 private immutable _stablecoinUnit;

    /// @dev Where proceeds go.
    address public treasury;

    /// @dev The round opened last, 0 before the first. It may be closed already.
    uint8 public currentRound;

    /// @dev Base units of NTC the cashier may allocate in one UTC day.
    uint256 public cashierLimit;

    FeedLimits private _limits;
    Round[4] private _rounds; // 1 to 3
    mapping(uint8 round => uint8) public decisionOf;
    mapping(bytes32 paymentReference => bool) public referenceUsed;
    uint256 private _cashierDay;
    uint256 private _cashierUsed;

    constructor(
        IERC20 ntc_,
        ISettlement settlement_,
        IERC20Metadata stablecoin_,
        AggregatorV3Interface etherFeed_,
        Cast memory cast,
        FeedLimits memory limits,
        uint256 cashierLimit_
    ) AccessControlDefaultAdminRules(ADMIN_TRANSFER_DELAY, cast.admin) {
        if (ntc_.balanceOf(address(this)) < SUPPLY) {
            revert TokenSaleNotFunded(ntc_.balanceOf(address(this)));
        }
        if (address(settlement_.token()) != address(ntc_)) {
            revert TokenSaleWrongSettlement(address(settlement_.token()));
        }
        uint8 decimals = stablecoin_.decimals();
        if (decimals > 18) {
            revert TokenSaleInvalidStablecoin(decimals);
        }
        etherFeed_.check(limits);
        ntc = ntc_;
        settlement = settlement_;
        stablecoin = stablecoin_;
        _stablecoinUnit = 10 ** decimals;
        etherFeed = etherFeed_;
        _limits = limits;
        _rounds[1].target = uint64(10_000_000 * NTC);
        _rounds[2].target = uint64(3_000_000 * NTC);
        _rounds[3].target = uint64(7_000_000 * NTC);
        _setTreasury(cast.treasury);
        _setCashierLimit(cashierLimit_);
        _grantRole(SALES_ROLE, cast.salesManager);
        _grantRole(CASHIER_ROLE, cast.cashier);
        _grantRole(PAUSER_ROLE, cast.guardian);
    }

    function round(uint8 number) external view returns (Round memory) {
        return _rounds[number];
    }

    /// @dev What the ether feed's answers must keep to.
    function feedLimits() external view returns (FeedLimits memory) {
        return _limits;
    }

    /// @dev Base units that can be bought now; 0 when no round is open.
    function left() public view returns (uint256) {
        Round storage current = _rounds[currentRound];
        return _isOpen(current) ? uint256(current.target) + current.carried - current.sold : 0;
    }

    /// @dev Base units the cashier may still allocate today (UTC).
    function cashierLeft() public view returns (uint256) {
        uint256 used = _cashierDay == block.timestamp / 1 days ? _cashierUsed : 0;
        return used < cashierLimit ? cashierLimit - used : 0;
    }

    /// @dev What so much NTC costs now, in the stablecoin's base units.
    function quoteStablecoin(uint256 ntcAmount) public view returns (uint256) {
        return Math.mulDiv(ntcAmount * _open().priceNanoUsd, _stablecoinUnit, NTC * USD, Math.Rounding.Ceil);
    }

    /// @dev What so much NTC costs now, in wei.
    function quoteEther(uint256 ntcAmount) external view returns (uint256) {
        (uint256 price,) = etherFeed.read(_limits);
        return _etherCost(ntcAmount, _open().priceNanoUsd, price);
    }

    /**
     * @dev Opens the next round at a price in nano-dollars for one NTC.
     *
     * Requirements: the caller is a sales manager; the previous round is closed; the price is not 0 and at most
     * {MAX_PRICE_RISE} times the previous round's.
     */
    function openRound(uint64 priceNanoUsd) external onlyRole(SALES_ROLE) {
        uint8 number = currentRound;
        if (_isOpen(_rounds[number])) {
            revert TokenSaleRoundStillOpen(number);
        }
        if (number == ROUNDS) {
            revert TokenSaleNoFurtherRound();
        }
        uint256 highest = number == 0 ? type(uint64).max : uint256(_rounds[number].priceNanoUsd) * MAX_PRICE_RISE;
        if (priceNanoUsd == 0 || priceNanoUsd > highest) {
            revert TokenSaleInvalidPrice(priceNanoUsd, uint64(Math.min(highest, type(uint64).max)));
        }
        currentRound = ++number;
        Round storage next = _rounds[number];
        next.priceNanoUsd = priceNanoUsd;
        next.openedAt = uint64(block.timestamp);
        emit RoundOpened(number, priceNanoUsd, uint256(next.target) + next.carried);
    }

    /// @dev Closes the round for good. Requirements: the caller is a sales manager; a round is open.
    function closeRound() external onlyRole(SALES_ROLE) {
        Round storage current = _open();
        current.closedAt = uint64(block.timestamp);
        emit RoundClosed(currentRound, current.sold, _unsold(current));
    }

    /**
     * @dev Decides once what becomes of what a closed round did not sell, with the reason for everybody to read:
     * {CARRY} it to the next round, as long as that is not closed, or {LOCK} it here for good.
     *
     * Requirements: the caller is a sales manager; the round is closed, left something unsold, and is not decided yet.
     */
    function decideUnsold(uint8 number, uint8 decision, string calldata reason) external onlyRole(SALES_ROLE) {
        if (number == 0 || number > ROUNDS || _rounds[number].closedAt == 0) {
            revert TokenSaleNotClosed(number);
        }
        if (decisionOf[number] != 0) {
            revert TokenSaleAlreadyDecided(number);
        }
        if (bytes(reason).length == 0) {
            revert TokenSaleNoReason();
        }
        uint64 unsold = _unsold(_rounds[number]);
        if (unsold == 0) {
            revert TokenSaleNothingUnsold(number);
        }
        decisionOf[number] = decision;
        if (decision == CARRY) {
            if (number == ROUNDS || _rounds[number + 1].closedAt != 0) {
                revert TokenSaleCannotCarry(number);
            }
            _rounds[number + 1].carried = unsold;
        } else if (decision != LOCK) {
            revert TokenSaleUnknownDecision(decision);
        }
        emit UnsoldDecided(number, decision, unsold, msg.sender, reason);
    }

    /**
     * @dev Buys `ntcAmount` base units for at most `maxCost` of the stablecoin, approved before. The NTC goes to the
     * caller, or to the portal's `account` if one is named.
     */
    function buyWithStablecoin(uint256 ntcAmount, uint256 maxCost, bytes32 account)
        external
        nonReentrant
        whenNotPaused
    {
        _buyWithStablecoin(ntcAmount, maxCost, account);
    }

    /**
     * @dev Like {buyWithStablecoin}, with the approval of `maxCost` as a signature of the caller.
     *
     * The permit's failure is ignored: somebody may have sent the same signature first, which leaves the approval in
     * place. Without an approval the payment fails.
     */
    function buyWithStablecoinPermit(
        uint256 ntcAmount,
        uint256 maxCost,
        bytes32 account,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external nonReentrant whenNotPaused {
        try IERC20Permit(address(stablecoin)).permit(msg.sender, address(this), maxCost, deadline, v, r, s) {} catch {}
        _buyWithStablecoin(ntcAmount, maxCost, account);
    }

    /**
     * @dev Buys for the ether sent, at the feed's price, at least `minNtc` base units. If the round runs out, what is
     * left is sold and the rest of the ether returned. The NTC goes to the caller, or to the portal's `account` if one
     * is named.
     */
    function buyWithEther(uint256 minNtc, bytes32 account) external payable nonReentrant whenNotPaused {
        uint64 priceNanoUsd = _open().priceNanoUsd;
        (uint256 price,) = etherFeed.read(_limits);
        uint256 ntcAmount = Math.mulDiv(msg.value, price, 10 ** _limits.decimals * priceNanoUsd);
        uint256 cost = msg.value;
        uint256 available = left();
        if (ntcAmount > available) {
            ntcAmount = available;
            cost = Math.min(cost, _etherCost(ntcAmount, priceNanoUsd, price));
        }
        if (ntcAmount < minNtc) {
            revert TokenSaleTooLittle(ntcAmount, minNtc);
        }
        _sell(ntcAmount);
        emit Bought(msg.sender, account, currentRound, ETHER, ntcAmount, cost, 0);
        _send(treasury, cost);
        _send(msg.sender, msg.value - cost);
        _deliver(msg.sender, account, ntcAmount);
    }

    /// @dev Allocates NTC paid for by card to an account of the portal. Requirements: see {allocateTo}.
    function allocate(bytes32 account, uint256 ntcAmount, bytes32 paymentReference)
        external
        onlyRole(CASHIER_ROLE)
        nonReentrant
        whenNotPaused
    {
        if (account == 0) {
            revert TokenSaleNobody();
        }
        _allocate(address(0), account, ntcAmount, paymentReference);
    }

    /**
     * @dev Allocates NTC paid for by card to a buyer's address.
     *
     * Requirements: the caller is a cashier; a round is open and has as much left; the payment's reference was never
     * used; today's limit is not passed.
     */
    function allocateTo(address buyer, uint256 ntcAmount, bytes32 paymentReference)
        external
        onlyRole(CASHIER_ROLE)
        nonReentrant
        whenNotPaused
    {
        if (buyer == address(0)) {
            revert TokenSaleNobody();
        }
        _allocate(buyer, 0, ntcAmount, paymentReference);
    }

    /// @dev Stops every purchase and allocation. Rounds can still be closed.
    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    /// @dev Sends later proceeds elsewhere.
    function setTreasury(address treasury_) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setTreasury(treasury_);
    }

    /// @dev Changes what the cashier may allocate in a day, in base units.
    function setCashierLimit(uint256 ntcPerDay) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setCashierLimit(ntcPerDay);
    }

    function _buyWithStablecoin(uint256 ntcAmount, uint256 maxCost, bytes32 account) private {
        uint256 cost = quoteStablecoin(ntcAmount);
        if (cost > maxCost) {
            revert TokenSaleTooDear(cost, maxCost);
        }
        _sell(ntcAmount);
        emit Bought(msg.sender, account, currentRound, STABLECOIN, ntcAmount, cost, 0);
        uint256 before = stablecoin.balanceOf(treasury);
        IERC20(stablecoin).safeTransferFrom(msg.sender, treasury, cost);
        uint256 received = stablecoin.balanceOf(treasury) - before;
        if (received < cost) {
            revert TokenSaleShortPayment(received, cost);
        }
        _deliver(msg.sender, account, ntcAmount);
    }

    function _allocate(address buyer, bytes32 account, uint256 ntcAmount, bytes32 paymentReference) private {
        if (paymentReference == 0) {
            revert TokenSaleNoReference();
        }
        if (referenceUsed[paymentReference]) {
            revert TokenSaleReferenceUsed(paymentReference);
        }
        uint256 allowed = cashierLeft();
        if (ntcAmount > allowed) {
            revert TokenSaleCashierLimit(ntcAmount, allowed);
        }
        uint256 today = block.timestamp / 1 days;
        _cashierUsed = today == _cashierDay ? _cashierUsed + ntcAmount : ntcAmount;
        _cashierDay = today;
        referenceUsed[paymentReference] = true;
        _sell(ntcAmount);
        emit Bought(buyer, account, currentRound, CARD, ntcAmount, 0, paymentReference);
        _deliver(buyer, account, ntcAmount);
    }

    /// @dev Counts a sale against the open round's cap.
    function _sell(uint256 ntcAmount) private {
        Round storage current = _open();
        if (ntcAmount == 0) {
            revert TokenSaleNothingBought();
        }
        uint256 available = left();
        if (ntcAmount > available) {
            revert TokenSaleSoldOut(ntcAmount, available);
        }
        // forge-lint: disable-next-line(unsafe-typecast)
        current.sold += uint64(ntcAmount); // not more than is left of 20 million
    }

    function _deliver(address buyer, bytes32 account, uint256 ntcAmount) private {
        if (account == 0) {
            ntc.safeTransfer(buyer, ntcAmount);
        } else {
            ntc.forceApprove(address(settlement), ntcAmount);
            settlement.deposit(account, ntcAmount);
        }
    }

    function _send(address to, uint256 amount) private {
        if (amount == 0) {
            return;
        }
        (bool taken,) = to.call{value: amount}("");
        if (!taken) {
            revert TokenSaleEtherRefused(to, amount);
        }
    }

    function _setTreasury(address treasury_) private {
        if (treasury_ == address(0) || treasury_ == address(this)) {
            revert TokenSaleInvalidAddress();
        }
        treasury = treasury_;
        emit TreasuryChanged(treasury_);
    }

    function _setCashierLimit(uint256 ntcPerDay) private {
        cashierLimit = ntcPerDay;
        emit CashierLimitChanged(ntcPerDay);
    }

    function _open() private view returns (Round storage current) {
        current = _rounds[currentRound];
        if (!_isOpen(current)) {
            revert TokenSaleNoOpenRound();
        }
    }

    function _isOpen(Round storage current) private view returns (bool) {
        return current.openedAt != 0 && current.closedAt == 0;
    }

    function _unsold(Round storage closed) private view returns (uint64) {
        return closed.target + closed.carried - closed.sold;
    }

    /// @dev Wei for so much NTC: NTC × nano-dollars ÷ (dollars per ether), rounded up.
    function _etherCost(uint256 ntcAmount, uint64 priceNanoUsd, uint256 etherPrice) private view returns (uint256) {
        return Math.mulDiv(ntcAmount, uint256(priceNanoUsd) * 10 ** _limits.decimals, etherPrice, Math.Rounding.Ceil);
    }
}
