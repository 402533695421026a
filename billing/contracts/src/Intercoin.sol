// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/**
 * @dev Intercoin (NTC): the money of Interchain.
 *
 * The whole supply of 25,000,000 NTC is minted once, at construction: 20,000,000 to the holder that sells it and
 * 5,000,000 to the holder that keeps the founders' share. There is no owner and no function that mints later.
 *
 * One NTC is 10^9 base units, so that the portal's ledger and this contract count the same whole number.
 */
contract Intercoin is ERC20, ERC20Permit {
    /// @dev What the sale holder receives, in base units.
    uint256 public constant SALE_SUPPLY = 20_000_000 * 10 ** 9;

    /// @dev What the founders' holder receives, in base units.
    uint256 public constant FOUNDERS_SUPPLY = 5_000_000 * 10 ** 9;

    /// @dev Mints the whole supply. The two holders may be the same account.
    constructor(address saleHolder, address foundersHolder) ERC20("Intercoin", "NTC") ERC20Permit("Intercoin") {
        _mint(saleHolder, SALE_SUPPLY);
        _mint(foundersHolder, FOUNDERS_SUPPLY);
    }

    /// @inheritdoc ERC20
    function decimals() public pure override returns (uint8) {
        return 9;
    }
}
